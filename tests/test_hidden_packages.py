"""Packages and modules that another folder hides, or that do not fit: the pair is named before anything is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.doctor import installation
from harness.engines import environments, torch_process
from harness.errors import CellbenchError
from harness.machine import packages
from harness.machine.checks import FAIL, OK
from harness.measure import parent
from tests.conftest import REPOSITORY

OLD = "__version__ = '1.0.0'\n"
# What may lie first on the path: the file, what it holds, and what is named.
HIDING: dict[str, tuple[str, str, str]] = {
    "numpy": ("numpy/__init__.py", OLD, "hides numpy"),
    "numpy as a file": ("numpy.py", OLD, "hides numpy"),
    "torch": ("torch/__init__.py", OLD, "hides torch"),
    "scipy": ("scipy/__init__.py", "raise ImportError('numpy.core.multiarray failed to import')\n", "hides scipy"),
    "cellpose": ("cellpose/__init__.py", OLD, "hides cellpose"),
    "pyarrow": ("pyarrow/__init__.py", "raise OSError('libarrow.so: cannot open')\n", "hides pyarrow"),
    "cv2": ("cv2/__init__.py", OLD, "hides opencv-python-headless"),
    "random": ("random.py", "raise RuntimeError('my script')\n", "random.py"),
    "queue": ("queue.py", "x = 1\n", "queue.py"),
    "types of one's own": ("decimal.py", "KEY = 1\n", "decimal.py"),
}


def put(folder: Path, name: str) -> None:
    file, content, _ = HIDING[name]
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(content)


@pytest.mark.parametrize("name", [name for name, (_, _, output) in HIDING.items() if output.startswith("hides")])
def test_every_package_that_is_hidden_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages.hidden() == []
    assert installation.hidden().verdict == OK
    put(tmp_path, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    [sentence] = packages.hidden()
    assert HIDING[name][2] in sentence
    assert str(tmp_path) in sentence
    assert installation.hidden().verdict == FAIL


@pytest.mark.parametrize("name", ["numpy", "random", "queue", "types of one's own", "pyarrow"])
def test_a_command_names_what_is_in_the_way(name: str, tmp_path: Path) -> None:
    put(tmp_path, name)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(REPOSITORY)))}
    done = subprocess.run(
        [sys.executable, "-m", "harness", "list", "--out", str(tmp_path)], capture_output=True, text=True, check=False,
        env=environ, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert HIDING[name][2] in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 3


@pytest.mark.parametrize("name", ["torch", "cellpose", "scipy"])
def test_a_measuring_process_with_something_in_the_way_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, name)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CellbenchError, match=f"packages are hidden: {name}") as refused:
        parent.version(environments.find("simulated"))
    assert "PYTHONPATH" in (refused.value.fix or "")


def test_a_package_in_development_hides_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(tmp_path, "numpy")
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(_: str) -> SimpleNamespace:
        return SimpleNamespace(version="9", read_text=lambda _: "__editable__.numpy.pth,,\n", locate_file=Path)

    monkeypatch.setattr("importlib.metadata.distribution", installed)
    assert packages.hidden() == []


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (ModuleNotFoundError("No module named 'typer'", name="typer"), "typer is not installed"),
        (ImportError("pyarrow requires NumPy 2.0"), "pyarrow requires NumPy 2.0"),
        (OSError("libcudart.so.12: cannot open shared object file"), "libcudart"),
        (AttributeError("module 'numpy' has no attribute 'ndarray'"), "ndarray"),
        (SyntaxError("invalid syntax"), "invalid syntax"),
    ],
)
def test_every_error_while_importing_is_one_line_with_a_fix(error: BaseException, output: str) -> None:
    what, where, fix = packages.explained(error)
    assert output in what
    assert "\n" not in what
    assert where
    assert fix


@pytest.mark.parametrize("message", ["Numpy is not available", "expected np.ndarray (got numpy.ndarray)"])
def test_a_torch_of_another_numpy_is_refused(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_process.check_pair()

    def refuse(_: object) -> None:
        raise (RuntimeError if "available" in message else TypeError)(message)

    import torch

    monkeypatch.setattr(torch, "from_numpy", refuse)
    with pytest.raises(CellbenchError, match=r"torch .* does not work with numpy"):
        torch_process.TorchProcess().devices()
