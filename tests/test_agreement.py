"""Scores of label images whose agreement is known, on drawn squares of 40 px and against dense matrices."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from harness.engines.base import Segmentation
from harness.engines.cellpose3 import weights
from harness.measure import agreement

SIDE_PX, PITCH_PX = 40, 50


def squares(n: int, columns: int = 20) -> np.ndarray:
    """A label image of n squares, in rows of up to 20."""
    masks = np.zeros((PITCH_PX * -(-n // columns), PITCH_PX * min(n, columns)), np.uint16)
    for i in range(n):
        y, x = PITCH_PX * (i // columns) + 5, PITCH_PX * (i % columns) + 5
        masks[y : y + SIDE_PX, x : x + SIDE_PX] = i + 1
    return masks


def eroded(masks: np.ndarray, by_px: int) -> np.ndarray:
    """Every cell smaller by so many px on each side."""
    kept = masks.copy()
    for axis in (0, 1):
        for shift in range(-by_px, by_px + 1):
            kept[np.roll(masks, shift, axis) != masks] = 0
    return kept


def without(masks: np.ndarray, *cells: int) -> np.ndarray:
    return np.where(np.isin(masks, cells), 0, masks)


def compare(reference: np.ndarray, found: np.ndarray) -> dict[str, object]:
    return agreement.compare(Segmentation(reference, 40.0), Segmentation(found, 41.0))


def scores(reference: np.ndarray, found: np.ndarray) -> tuple[object, ...]:
    row = compare(reference, found)
    return row["ap50"], row["ap90"], row["mean_iou"], row["agreement"]


def test_cells_are_numbered_by_first_appearance() -> None:
    given = np.array([[7, 7, 0], [0, 2, 2], [9, 0, 7]], np.uint16)
    assert agreement.in_order(given).tolist() == [[1, 1, 0], [0, 2, 2], [3, 0, 1]]
    assert agreement.in_order(given).dtype == np.int32


def test_an_image_without_background_keeps_its_first_cell() -> None:
    assert agreement.in_order(np.array([[4, 4], [3, 3]])).tolist() == [[1, 1], [2, 2]]


def test_other_numbers_and_types_are_identical() -> None:
    masks = squares(40)
    numbers = np.random.default_rng(0).permutation(41)
    numbers[numbers == 0], numbers[0] = numbers[0], 0
    for dtype in (np.uint16, np.uint32, np.int32, np.int64):
        assert scores(masks, (numbers * 3)[masks].astype(dtype)) == (1.0, 1.0, 1.0, "identical")


def test_the_references_own_columns_come_along() -> None:
    row = compare(squares(3), squares(3))
    assert (row["reference_n_cells"], row["reference_diameter_px"]) == (3, 40.0)


def test_no_cells_at_all_prove_nothing() -> None:
    nothing = np.zeros((8, 8), np.uint16)
    assert scores(nothing, nothing.astype(np.uint32)) == (None, None, None, None)
    assert compare(nothing, nothing)["reference_n_cells"] == 0


def test_cells_against_none_are_different() -> None:
    nothing = np.zeros_like(squares(3))
    assert scores(squares(3), nothing) == (0.0, 0.0, 0.0, "different")
    assert scores(nothing, squares(3)) == (0.0, 0.0, None, "different")


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(50, 50\) and \(50, 100\)"):
        compare(squares(1), squares(2))


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ((200, 199, 0.995, 0.995, 0.995), "equivalent"),
        ((100, 99, 0.99, 0.99, 0.99), "equivalent"),
        ((99, 98, 98 / 99, 98 / 99, 98 / 99), "close"),
        ((200, 198, 0.99, 0.99, 0.99), "close"),  # the count
        ((400, 398, 0.995, 0.995, 0.995), "equivalent"),
        ((50, 50, 1.0, 1.0, 0.989), "close"),
        ((50, 50, 1.0, 0.969, 0.995), "close"),
        ((20, 19, 0.95, 0.95, 0.95), "close"),
        ((19, 18, 18 / 19, 18 / 19, 18 / 19), "different"),
        ((50, 50, 1.0, 0.899, 0.995), "different"),
    ],
)
def test_verdicts_at_their_bounds(given: tuple[int, int, float, float, float], word: str) -> None:
    assert agreement.verdict(*given) == word


@pytest.mark.parametrize(("n", "word"), [(2, "different"), (20, "close"), (200, "equivalent")])
def test_one_cell_lost(n: int, word: str) -> None:
    share = (n - 1) / n
    assert scores(squares(n), without(squares(n), n // 2)) == (share, share, pytest.approx(share), word)


def test_two_of_200_lost_are_more_than_the_count_allows() -> None:
    assert scores(squares(200), without(squares(200), 3, 7)) == (0.99, 0.99, pytest.approx(0.99), "close")


@pytest.mark.parametrize(("by_px", "ap90", "word"), [(1, 1.0, "close"), (2, 0.0, "different")])
def test_smaller_cells(by_px: int, ap90: float, word: str) -> None:
    iou = (1 - 2 * by_px / SIDE_PX) ** 2
    assert scores(squares(30), eroded(squares(30), by_px)) == (1.0, ap90, pytest.approx(iou), word)


@pytest.mark.parametrize(
    ("by_px", "ap50", "ap90", "word"),
    [(1, 1.0, 1.0, "close"), (3, 1.0, 0.0, "different"), (20, 0.0, 0.0, "different")],
)
def test_a_shifted_image(by_px: int, ap50: float, ap90: float, word: str) -> None:
    iou = (SIDE_PX - by_px) / (SIDE_PX + by_px)
    shifted = np.roll(squares(30), by_px, axis=1)
    assert scores(squares(30), shifted) == (ap50, ap90, pytest.approx(iou), word)


def test_merged_cells_are_a_loss_and_a_surplus() -> None:
    merged = np.where(squares(100) == 2, 1, squares(100))
    ap50, ap90, mean_iou, _ = scores(squares(100), merged)
    assert (ap50, ap90) == (99 / 100, 98 / 101)  # half of the pair still matches at 0.5
    assert mean_iou == pytest.approx(98.5 / 100)


def test_no_background_on_either_side() -> None:
    rows = np.repeat(np.arange(1, 5), 20)[:, None] * np.ones((1, 80), int)
    assert scores(rows, np.roll(rows, 1, axis=0)) == (1.0, 1.0, pytest.approx(19 / 21), "close")


def test_average_precision_is_symmetric() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, noise = (np.kron(rng.integers(0, 12, (9, 9)), np.ones((4, 4), np.int32)) for _ in range(2))
        b = np.where(rng.random(a.shape) < rng.uniform(0.5, 1.0), a, noise)
        there, back = compare(a, b), compare(b, a)
        assert (there["ap50"], there["ap90"]) == (back["ap50"], back["ap90"])


def test_types_may_be_mixed() -> None:
    found = without(squares(20), 4)
    rows = {
        scores(squares(20).astype(one), found.astype(other))
        for one in (np.uint16, np.uint32, np.int32)
        for other in (np.uint16, np.uint32, np.int32)
    }
    assert len(rows) == 1


def test_scores_are_plain_numbers() -> None:
    json.dumps(compare(squares(20), without(squares(20), 4)), allow_nan=False)


# ------------------------------------------------------------------ against dense matrices and cellpose


def label_images(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two label images that differ in one of many ways; some of their cells share exactly half of their pixels."""
    n_cells, side_px = rng.integers(1, 12), rng.integers(1, 5)
    masks, others = rng.integers(0, n_cells + 1, (2, *rng.integers(1, 14, 2)))
    others = [
        others,
        np.where(rng.random(masks.shape) < 0.7, masks, others),
        np.where((np.arange(len(masks)) % 2)[:, None] & (masks > 0), masks + n_cells, masks),  # each cell split
    ][rng.integers(3)]
    large, others = (np.kron(each, np.ones((side_px, side_px), int)) for each in (masks, others))
    return large, np.roll(others, rng.integers(0, side_px, 2), (0, 1))


def dense_scores(reference: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """ap50, ap90 and mean IoU from the matrix of all pairs."""
    cells, others = ([image == i for i in np.unique(image[image > 0])] for image in (reference, found))
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in others] for a in cells])
    n_fewer, ap = min(iou.shape), []
    for threshold in (0.5, 0.9):
        pairs = linear_sum_assignment((iou >= threshold) + iou / (2 * n_fewer), maximize=True)
        n = np.count_nonzero(iou[pairs] >= threshold)
        ap.append(n / (sum(iou.shape) - n))
    pairs = linear_sum_assignment((iou >= 0.5) + iou / (2 * n_fewer), maximize=True)
    return *ap, iou[pairs].sum() / len(cells)


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_those_of_the_matrix_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        a, b = label_images(rng)
        if a.any() and b.any():
            assert scores(a, b)[:3] == pytest.approx(dense_scores(a, b), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parallel
def test_scores_are_those_of_cellpose() -> None:
    metrics = pytest.importorskip("cellpose.metrics")
    rng = np.random.default_rng(0)
    for _ in range(500):
        a, b = (agreement.in_order(each) for each in label_images(rng))
        if not a.any() or not b.any():
            continue
        with np.errstate(invalid="ignore"):  # where no pixel is background, cellpose divides 0 by 0 for it
            _, tp, fp, fn = metrics.average_precision(a, b, threshold=[0.5, 0.9])
            iou, _ = metrics.mask_ious(a, b)
        expected = (*(float(t) / float(t + p + n) for t, p, n in zip(tp, fp, fn, strict=True)), iou.mean())
        assert scores(a, b)[:3] == pytest.approx(expected, abs=1e-12)


MANY_CELLS = """
import sys
import numpy as np
from harness.engines.base import Segmentation
from harness.measure import agreement

n_rows, pitch_px = int(sys.argv[1]), 8
y, x = np.mgrid[: n_rows * pitch_px, : n_rows * pitch_px]
cells = (1 + y // pitch_px * n_rows + x // pitch_px) * (y % pitch_px > 0) * (x % pitch_px > 0)
row = agreement.compare(Segmentation(cells, 7.0), Segmentation(np.roll(cells, 1, 1), 7.0))
assert row["reference_n_cells"] == n_rows**2
assert abs(row["mean_iou"] - 6 / 8) < 1e-9, row
"""


@pytest.mark.parametrize("n_rows", [100, pytest.param(265, marks=pytest.mark.slow)])
def test_many_cells_fit_into_little_memory(n_rows: int) -> None:
    # The matrix of 10,000 cells has 0.8 GB, of which the dense way took several; that of 70,000 has 39 GB.
    limit_bytes = 3 * 2**30 if n_rows > 100 else 2**30
    done = subprocess.run(
        [sys.executable, "-c", MANY_CELLS, str(n_rows)],
        capture_output=True, text=True, check=False, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


TWO_CALLS = """
import json, sys
from harness.engines.registry import engine_of
from harness.images import synthetic
from harness.measure import agreement

engine = engine_of("cyto3")
engine.prepare("cyto3", sys.argv[1], "")
engine.start()
model = engine.load("cyto3", "cpu", "float32")
pixels = synthetic.sparse(height_px=192, width_px=160, n_cells=4).image
print(json.dumps(agreement.compare(*(model.segment(pixels) for _ in range(2)))))
"""


@pytest.mark.slow
@pytest.mark.parallel
def test_two_calls_on_the_processor_are_identical() -> None:
    folder = str(weights.resolve("standin").folder)
    done = subprocess.run([sys.executable, "-c", TWO_CALLS, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.splitlines()[-1])
    assert (row["agreement"], row["mean_iou"]) == ("identical", 1.0)
    assert row["reference_n_cells"] > 0
