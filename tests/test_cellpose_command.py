"""cellbench cellpose: Cellpose's own command line, the same masks, its exit code, all of its arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from harness.engines import registry
from harness.engines.cellpose import command_line
from harness.engines.cellpose3.weights import STANDIN_FOLDER
from harness.errors import CellbenchError
from harness.images import synthetic

OURS, STOCK = ("harness", "cellpose"), ("cellpose",)


def run(program: tuple[str, ...], *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *program, *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_folder_has_the_masks_of_stock_cellpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(STANDIN_FOLDER))
    images = tmp_path / "two words"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", synthetic.BUILT_IN["sparse"]().image[900:1028, 900:1028])
    masks = {}
    for program in (OURS, STOCK):
        out = tmp_path / program[0]
        out.mkdir()
        done = run(program, "--dir", images, "--savedir", out, "--pretrained_model", "cyto3", "--save_tif", "--no_npy")
        assert done.returncode == 0, done.stderr
        assert ("lossless applied" in done.stderr) == (program == OURS)
        masks[program] = tifffile.imread(out / "a_cp_masks.tif")
    assert masks[OURS].max() > 0
    np.testing.assert_array_equal(masks[OURS], masks[STOCK])


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--nonsense"],
        ["--dir", "missing", "--diameter", "wide"],
        ["--image_path", "missing.tif"],
        ["--version"],
        ["--dir", "x", "--help"],
    ],
)
def test_arguments_and_exit_codes_are_those_of_cellpose(words: list[str]) -> None:
    ours, stock = run(OURS, *words), run(STOCK, *words)
    assert (ours.returncode, ours.stdout) == (stock.returncode, stock.stdout)


@pytest.mark.slow
def test_after_two_dashes_everything_is_cellposes() -> None:
    assert "--pretrained_model" in run(OURS, "--", "--help").stdout
    assert "--engine" in run(OURS, "--help").stdout
    assert run(OURS, "--engine", "nope", "--version").returncode == 2


class Applied:
    """What apply() returns; live: the models that have the variant."""

    names = ("fast-flows",)

    def __init__(self, model: Any, live: list[Any]) -> None:
        self._model, self._live = model, live
        live.append(model)

    def remove(self) -> None:
        self._live.remove(self._model)


def test_the_newest_model_alone_has_the_variant(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    live: list[Any] = []

    def apply(model: Any) -> Applied:
        if isinstance(model, Inner):
            raise CellbenchError("an Inner cannot be accelerated")
        return Applied(model, live)

    class Inner:
        def __init__(self, size: int) -> None:
            self.size = size

    class Outer:
        def __init__(self, size: int) -> None:
            self.inner = Inner(size)

    class Broken:
        def __init__(self) -> None:
            raise ValueError("no weights")

    monkeypatch.setattr(registry, "apply", apply)
    accelerated = command_line._Accelerated()
    for kind in (Inner, Outer, Broken):
        monkeypatch.setattr(kind, "__init__", accelerated.constructor(kind.__init__))
    first, second = Outer(1), Outer(2)
    assert (live, first.inner.size) == ([second], 1)
    with pytest.raises(ValueError, match="no weights"):
        Broken()
    third = Outer(3)
    assert live == [third]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("lossless applied (fast-flows)" in line for line in lines)
    Inner(4)
    assert live == []
    assert capsys.readouterr().err == "cellbench: stock Cellpose runs: an Inner cannot be accelerated\n"
