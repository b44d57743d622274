"""The stand-in weights find about what is there, on drawn images and on the article's, which they never saw."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness import images, synthetic, weights, worker
from harness.plan import Block, Case, Device
from harness.schema import Sample
from harness.worker import Order
from tests.conftest import REPOSITORY, SEED_DATA, SEED_IMAGE, needs_seed_data

pytestmark = pytest.mark.slow


def segment(pixels: np.ndarray, folder: Path) -> Sample:
    """One whole stock eval() of these pixels with the stand-in weights, through a worker."""
    np.save(folder / "image.npy", pixels)
    case = Case("full", *pixels.shape, "standard")
    block = Block(0, Device("cpu", 0, "CPU"), (case,), warmups=0, repeats=1)
    found = weights.resolve("standin")
    order = Order(block, str(folder / "image.npy"), images.hash_pixels(pixels), found.folder, os.cpu_count() or 1, {})
    last = list(worker.perform(order))[-1]
    assert last["status"] == "ok", last["error_message"]
    return last


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
