"""The stand-in weights find about what is there, on drawn images and on the article's, which they never saw."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness import images, schema
from harness.engines.cellpose3 import weights
from harness.images import synthetic
from harness.measure import parent
from harness.measure.block import Finished
from harness.measure.wire import Order
from harness.plan.cases import Block, Case, Task
from harness.schema import Sample
from tests.conftest import CPU_DEVICE, REPOSITORY, RUN_ID, SEED_DATA, SEED_IMAGE, TWICE, needs_seed_data

pytestmark = pytest.mark.slow


def segment(pixels: np.ndarray, folder: Path) -> Sample:
    """One whole stock eval() of these pixels with the stand-in weights, through a worker."""
    return performed(pixels, folder, "timed")[-1]


def performed(pixels: np.ndarray, folder: Path, role: str) -> list[Sample]:
    """The samples of one task on these pixels."""
    np.save(folder / "image.npy", pixels)
    case = Case("full", *pixels.shape, "standard")
    once = replace(TWICE, warmups=0, repeats=1)
    block = Block(0, CPU_DEVICE, (Task(role, case, 0),), once, threads=os.cpu_count() or 1)
    found = weights.resolve("standin")
    constants = {"schema_version": schema.VERSION, "run_id": RUN_ID, "source": "measured"}
    order = Order(block, str(folder / "image.npy"), images.hash_pixels(pixels), found.folder, constants)
    samples = [output for output in parent.perform(order) if not isinstance(output, Finished)]
    assert samples[-1]["status"] == "ok", samples[-1]["error_message"]
    return samples


@pytest.mark.parametrize(("name", "within"), [("sparse", 0.15), ("dense", 0.2)])
def test_drawn_cells_are_found(tmp_path: Path, name: str, within: float) -> None:
    scene = synthetic.BUILT_IN[name]()
    middle = (slice(856, 1304), slice(1056, 1504))
    truth = np.unique(scene.labels[middle])
    found = segment(np.ascontiguousarray(scene.image[middle]), tmp_path)
    assert found["n_cells"] == pytest.approx(np.count_nonzero(truth), rel=within, abs=1)
    assert found["diameter_px"] == pytest.approx({"sparse": 68, "dense": 30}[name], rel=0.15)


def test_an_empty_image_has_no_cells(tmp_path: Path) -> None:
    found = segment(np.full((96, 96), 12, np.uint8), tmp_path)
    assert found["n_cells"] == 0


def test_nothing_but_noise_is_not_enlarged(tmp_path: Path) -> None:
    # A tiny guess of the diameter would make the later passes several times as large as the image.
    noise = np.random.default_rng(7).normal(100, 10, (224, 224)).clip(0, 255).astype(np.uint8)
    tiles = {s["stage_pass"]: s["n_tiles"] for s in performed(noise, tmp_path, "stages") if s.get("n_tiles")}
    assert tiles["style"] == 4
    assert tiles["size"] <= 9


@needs_seed_data
def test_the_articles_first_crops(tmp_path: Path) -> None:
    # The whole table takes minutes; it stands in docs/standin.md. The first three crops stand for it here.
    published = tmp_path / "published.csv"
    rows = (SEED_DATA / "published_single_run.csv").read_text().splitlines()
    published.write_text("\n".join(rows[:4]) + "\n")
    script = REPOSITORY / "scripts" / "benchmarks" / "standin_table.py"
    done = subprocess.run(
        [sys.executable, script, "--image", SEED_IMAGE, "--published", published],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
