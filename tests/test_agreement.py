"""Scores of label images whose agreement is known, on drawn squares of 40 px."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.engines.base import Segmentation
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


def test_no_cells_at_all_are_identical_and_have_no_scores() -> None:
    nothing = np.zeros((8, 8), np.uint16)
    assert scores(nothing, nothing.astype(np.uint32)) == (None, None, None, "identical")


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


# ------------------------------------------------------------------ scores


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


LABELS = arrays.arrays(np.int32, (6, 7), elements=st.integers(0, 5))


@settings(deadline=None)
@given(LABELS, LABELS)
def test_average_precision_is_symmetric(a: np.ndarray, b: np.ndarray) -> None:
    there, back = compare(a, b), compare(b, a)
    assert (there["ap50"], there["ap90"]) == (back["ap50"], back["ap90"])


@settings(deadline=None)
@given(LABELS, LABELS, st.sampled_from([np.uint16, np.uint32, np.int64]))
def test_types_may_be_mixed(a: np.ndarray, b: np.ndarray, dtype: type) -> None:
    assert scores(a.astype(dtype), b) == scores(a, b.astype(dtype)) == scores(a, b)


def test_scores_are_plain_numbers() -> None:
    json.dumps(compare(squares(20), without(squares(20), 4)), allow_nan=False)


@pytest.mark.slow
def test_scores_are_those_of_cellpose() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cellpose import metrics

    @settings(deadline=None)
    @given(LABELS, LABELS)
    def check(a: np.ndarray, b: np.ndarray) -> None:
        expected, seen = agreement.in_order(a), agreement.in_order(b)
        ours = scores(a, b)
        if ours[3] == "identical" or not (expected.any() and seen.any()):
            return
        with np.errstate(invalid="ignore"):  # where no pixel is background, it divides 0 by 0
            ap, *_ = metrics.average_precision(expected, seen, threshold=[0.5, 0.9])
            iou, _ = metrics.mask_ious(expected, seen)
        assert ours[:3] == pytest.approx((*ap, iou.mean()), rel=1e-6)

    check()
