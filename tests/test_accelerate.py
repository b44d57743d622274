"""accelerate() in an environment of somebody's own: without anything of ours but the files of this package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from harness.engines.cellpose3.weights import STANDIN_FOLDER
from tests.conftest import REPOSITORY

# What Cellpose 3 itself needs; an environment that has it has these.
CELLPOSE_NEEDS = {"cellpose"} | {
    re.split(r"[\[<>=;]", each)[0].strip() for each in metadata.requires("cellpose") or [] if "extra" not in each
}
SCRIPT = """
import importlib.abc, json, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"{name} is not in this environment", name=name)
HIDDEN = set(sys.argv[2].split())
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, sys.argv[1])
import cellbench, numpy as np, torch
from cellbench import accelerate
from cellpose import models
torch.set_num_threads(1)
image = np.random.default_rng(1).integers(0, 200, (96, 96)).astype(np.uint16)
yy, xx = np.mgrid[:96, :96]
for y, x in ((25, 25), (30, 70), (70, 40)):
    image[(yy - y) ** 2 + (xx - x) ** 2 < 150] += 3000
def found(model):
    return model.eval(image, diameter=30, channels=[0, 0])[0]
stock = found(models.Cellpose(model_type="cyto3"))
same = {name: bool((found(accelerate(models.Cellpose(model_type="cyto3"), name)) == stock).all())
        for name in ("lossless", "lossless+plain")}
print(json.dumps({"from": cellbench.__file__, "n_cells": int(stock.max()), "same": same}))
"""


def hidden() -> list[str]:
    """The modules of what this package asks for and Cellpose does not."""
    request = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\\[<>=]", each)[0].strip() for each in request} - CELLPOSE_NEEDS
    modules = {"nvidia-ml-py": "pynvml", "prompt-toolkit": "prompt_toolkit", "vl-convert-python": "vl_convert"}
    return sorted({modules.get(name, name) for name in names} | {"pandas", "polars"})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked: what `pip install --no-deps` of it leaves."""
    made = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    copy = tmp_path_factory.mktemp("source")
    for name in ("harness", "cellbench", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(REPOSITORY / name), str(copy)], check=True)
    subprocess.run([*command, str(made), str(copy)], check=True, capture_output=True)
    [file] = made.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(made / "installed")
    return made / "installed"


@pytest.mark.slow
def test_masks_stay_in_an_environment_of_somebody_elses(wheel: Path, tmp_path: Path) -> None:
    environ = {**os.environ, "CELLPOSE_LOCAL_MODELS_PATH": str(STANDIN_FOLDER), "HOME": str(tmp_path)}
    environ.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(wheel), " ".join(hidden())],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["from"]).is_relative_to(wheel)
    assert found["n_cells"] > 0
    assert found["same"] == {"lossless": True, "lossless+plain": True}


@pytest.mark.slow
def test_the_wheel_has_all_files_of_the_package(wheel: Path) -> None:
    """Data that a pattern of pyproject forgets is missing only where nobody looks."""
    listed = subprocess.run(
        ["git", "ls-files", "harness", "cellbench"], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout.splitlines()
    assert [name for name in listed if not (wheel / name).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize(("words", "codes"), [(["--version"], {0}), (["doctor"], {0, 3})])
def test_the_command_of_the_wheel_starts(wheel: Path, tmp_path: Path, words: list[str], codes: set[int]) -> None:
    environ = {**os.environ, "PYTHONPATH": str(wheel), "HOME": str(tmp_path)}
    program = (
        f"import harness, sys; assert harness.__file__.startswith({str(wheel)!r}); import harness.cli as c; c.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, cwd=tmp_path, env=environ
    )
    assert done.returncode in codes, done.stderr
    assert ("cellbench 0." if words == ["--version"] else "computes cpu") in done.stdout
