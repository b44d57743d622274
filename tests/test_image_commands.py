"""Commands that take an image: their fixes exist, tiny images stop them, and blank images prove nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from harness import images
from harness.charts import agreement_chart
from harness.cli import app
from harness.errors import CasesFailedError, CellbenchError
from harness.measure import race
from harness.plan.cases import Case
from harness.query.session import Session
from harness.results import scope, tables
from harness.run import throughput, tune
from harness.terminal import tuning_view
from tests.conftest import make_sample, make_store

COMMANDS = typer.main.get_command(app.app).commands  # type: ignore[attr-defined]
OPTIONS = {name: {option for each in command.params for option in each.opts} for name, command in COMMANDS.items()}
WITH_IMAGE = sorted(name for name, options in OPTIONS.items() if "--image" in options)
LAYERS = np.zeros((2, 3, 32, 48), np.uint8)


@pytest.mark.parametrize("command", WITH_IMAGE)
def test_the_flags_of_every_fix_exist_in_every_command_that_takes_an_image(command: str, tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, LAYERS, ome=True, metadata={"axes": "CZYX"}, photometric="minisblack")
    flags = set()
    for source, picks in (
        (str(path), {}), (str(path), {"plane": 9}), (str(path), {"plane": 0, "channel": 9}), ("sparse", {"plane": 0}),
    ):  # fmt: skip
        with pytest.raises(CellbenchError) as caught:
            images.load(source, **picks)
        flags |= set(re.findall(r"--[a-z-]+", caught.value.fix or ""))
    assert flags == {"--plane", "--channel"}
    assert flags <= OPTIONS[command]


def test_the_commands_that_take_an_image_are_known() -> None:
    assert {"run", "tune", "verify-masks", "throughput"} <= set(WITH_IMAGE)


@pytest.mark.parametrize("side_px", [8, 11, 12, 13, 448])
def test_the_smaller_crop_of_a_race_can_be_segmented(side_px: int) -> None:
    crops = race.gate_crops(Case(str(side_px), side_px, side_px, "standard"))
    assert [crop.crop for crop in crops] == ([str(side_px * 2 // 3)] if side_px >= 12 else []) + [str(side_px)]


def test_a_folder_with_a_thin_image_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    for name, shape in (("a.tif", (32, 48)), ("b.tif", (500, 7))):
        tifffile.imwrite(tmp_path / name, np.zeros(shape, np.uint8), metadata=None)
    with pytest.raises(CellbenchError, match="7 × 500 px") as caught:
        throughput.folder(tmp_path)
    assert caught.value.where == str(tmp_path / "b.tif")


def test_a_folder_of_stacks_is_read_at_one_plane_and_channel(tmp_path: Path) -> None:
    layers = LAYERS + np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1)
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, layers, ome=True, metadata={"axes": "CZYX"}, photometric="minisblack")
    assert [image.pixels.max() for image in throughput.folder(tmp_path, plane=2, channel=1)] == [5, 5]


# ------------------------------------------------------------------ images without cells


def compared(*words: str | None) -> list[dict[str, object]]:
    return [make_sample(role="masks", variant="lossless", agreement=word) for word in words]


def test_comparisons_without_a_cell_are_no_proof() -> None:
    with pytest.raises(CasesFailedError) as caught:
        tune.check_cells(compared(None, None))
    assert "proves nothing" in caught.value.what
    assert caught.value.exit_code == 3
    flags = set(re.findall(r"--[a-z-]+", caught.value.fix or ""))
    assert flags <= OPTIONS["tune"] & OPTIONS["verify-masks"]
    assert [each.passes("equivalent") for each in tune.outcomes(compared(None, None))] == [False]


@pytest.mark.parametrize("words", [(None, "identical"), ("different",), ("close", None), ()])
def test_one_comparison_of_cells_is_enough(words: tuple[str | None, ...]) -> None:
    tune.check_cells(compared(*words))
    worst = [each.agreement for each in tune.outcomes(compared(*words))]
    assert worst == [word for word in words if word]


def test_images_without_cells_are_not_compared_in_tables_and_charts(tmp_path: Path) -> None:
    blank = {"case_id": "a", "n_cells": 0, "agreement": None, "diameter_asked_px": 0.0}
    races = [make_sample(role="tune", variant=name, n_cells=0) for name in ("stock", "lossless")]
    samples = [make_sample(**blank), make_sample(**blank, role="masks"), *races, *compared(None)]
    session = Session(make_store(tmp_path, samples))
    data = tables.load(session, scope.resolve(session))
    assert [cell.state for cell in agreement_chart.cells(data)] == ["not compared"]
    assert {row["masks"] for row in data.races.to_pylist()} == {None}


def test_ways_that_found_no_cells_have_no_masks_to_agree_on() -> None:
    counts = {"role": "throughput", "n_images": 4, "n_in_flight": 1, "mask_sha256": "0"}
    rows = [make_sample(**counts, n_processes=n, position=n, n_cells=0) for n in (1, 2)]
    assert [rate.same_masks for rate in throughput.rates(rows)] == [None, None]
    assert tuning_view.rates(throughput.rates(rows)).count("no cells") == 2


def cellbench(*words: str, script: dict[str, object], folder: Path) -> subprocess.CompletedProcess[str]:
    """The command with a simulated engine, in a process of its own."""
    (folder / "script.json").write_text(json.dumps(script))
    command = [sys.executable, "-m", "harness", *words, "--out", str(folder / "results")]
    environ = os.environ | {"CELLBENCH_SIMULATED": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("verify-masks", "--variant", "fast"), ("tune", "--budget", "1s")], ids=" ".join)
def test_a_blank_image_is_no_proof(words: tuple[str, ...], tmp_path: Path) -> None:
    words = (*words, "--model", "sleep", "--crop", "64")
    blank = cellbench(*words, script={"n_cells": 0}, folder=tmp_path)
    assert blank.returncode == 3, blank.stderr
    assert "no cells were found" in blank.stderr
    assert cellbench(*words, script={"n_cells": 3}, folder=tmp_path).returncode == 0


@pytest.mark.slow
def test_a_run_whose_image_became_another_says_how_it_can_go_on(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, LAYERS[0, 0], metadata=None)
    run = ("run", "--no-ray", "--models", "sleep", "--image", str(path), "--crops", "16", "--devices", "cpu")
    assert cellbench(*run, script={"accident": "raise", "at_height_px": 16}, folder=tmp_path).returncode == 3
    tifffile.imwrite(path, LAYERS[0], metadata=None, photometric="minisblack")
    again = cellbench("resume", "--retry-failed", script={}, folder=tmp_path)
    assert again.returncode == 2
    assert "not a single 2-D image" in again.stderr
    assert "restore image and weights" in again.stderr
    assert "--plane" not in again.stderr


def test_a_profile_that_leaves_every_case_out_is_rejected_with_the_way_out(tmp_path: Path) -> None:
    profile = tmp_path / "slow.toml"
    profile.write_text('models = ["sleep"]\ncrops = [64, 96]\ncall_seconds_max = 0\n')
    words = ["run", "--profile", str(profile), "--no-ray", "--dry-run", "--out", str(tmp_path / "results")]
    done = CliRunner().invoke(app.app, words)
    assert isinstance(done.exception, CellbenchError)
    assert "longer than 0 s" in str(done.exception)
    assert "--crops 64" in done.exception.fix
    assert CliRunner().invoke(app.app, [*words, "--crops", "64"]).exit_code == 0
    assert not (tmp_path / "results").exists()
