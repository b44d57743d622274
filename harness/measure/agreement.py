"""The agreement of two label images of the same pixels: scores, and one word for them.

The scores are those of cellpose.metrics; they use the overlaps that exist instead of a matrix of all pairs of cells.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Labels(Protocol):
    """The cells found in an image: labels (height, width), 0 is background; engines' Segmentation is one."""

    @property
    def masks(self) -> np.ndarray: ...
    @property
    def n_cells(self) -> int: ...
    @property
    def diameter_px(self) -> float: ...


def compare(reference: Labels, found: Labels) -> dict[str, Any]:
    """Compare two label images; the columns of the result. Without cells in either, all but the counts are null.

    ap50, ap90: TP / (TP + FP + FN) of cells matched one to one at that IoU. mean_iou: over the reference's
    cells, 0 for one without a match. ValueError where the two are not of the same shape.
    """
    if reference.masks.shape != found.masks.shape:
        raise ValueError(f"label images of {reference.masks.shape} and {found.masks.shape} cannot be compared")
    expected, seen = in_order(reference.masks), in_order(found.masks)
    n_expected, n_seen = int(expected.max(initial=0)), int(seen.max(initial=0))
    word: str | None
    scores: tuple[float | None, ...]
    if not n_expected and not n_seen:
        word, scores = None, (None,) * 3
    elif not n_expected or not n_seen:
        word, scores = "different", (0.0, 0.0, 0.0 if n_expected else None)
    elif np.array_equal(expected, seen):
        word, scores = "identical", (1.0,) * 3
    else:
        ap50, ap90, mean_iou = _scores(matched_iou(expected, seen), n_expected, n_seen)
        word, scores = verdict(n_expected, n_seen, ap50, ap90, mean_iou), (ap50, ap90, mean_iou)
    return {
        **dict(zip(("ap50", "ap90", "mean_iou"), scores, strict=True)),
        "agreement": word,
        "reference_n_cells": reference.n_cells,
        "reference_diameter_px": reference.diameter_px,
    }


def accuracy(truth: np.ndarray, found: Labels) -> dict[str, Any]:
    """Compare with the cells that were drawn; the columns of the result. truth (height, width), 0 is background.

    truth_apNN: TP / (TP + FP + FN) at that IoU; truth_f1: 2 TP / (2 TP + FP + FN) at 0.5. All but the count are null
    where neither has a cell.
    """
    expected, seen = in_order(truth), in_order(found.masks)
    n_expected, n_seen = int(expected.max(initial=0)), int(seen.max(initial=0))
    scores: tuple[float | None, ...] = (None,) * 4
    if n_expected or n_seen:
        iou = matched_iou(expected, seen) if n_expected and n_seen else np.zeros(0)
        matched = [int(np.count_nonzero(iou >= threshold)) for threshold in (0.5, 0.75, 0.9)]
        scores = (*(n / (n_expected + n_seen - n) for n in matched), 2 * matched[0] / (n_expected + n_seen))
    names = ("truth_ap50", "truth_ap75", "truth_ap90", "truth_f1")
    return {**dict(zip(names, scores, strict=True)), "truth_n_cells": n_expected}


def verdict(n_expected: int, n_seen: int, ap50: float, ap90: float, mean_iou: float) -> str:
    """One word for imperfect scores: equivalent, close or different.

    A diameter that differs by 0.3 % moves every border to a mean IoU of 0.989: close, not equivalent.
    Equivalent requires a match for every cell below 100 cells; below 20 cells, one lost cell makes masks different.
    """
    same_count = abs(n_seen - n_expected) <= max(1, 0.005 * n_expected)
    if ap50 >= 0.99 and ap90 >= 0.97 and mean_iou >= 0.99 and same_count:
        return "equivalent"
    return "close" if ap50 >= 0.95 and ap90 >= 0.90 else "different"


def in_order(masks: np.ndarray) -> np.ndarray:
    """Number the same cells 1..n in order of first appearance, as int32; 0 stays background."""
    labels, first, which = np.unique(masks.ravel(), return_index=True, return_inverse=True)
    cells = np.flatnonzero(labels)
    numbers = np.zeros(len(labels), np.int32)
    numbers[cells[np.argsort(first[cells])]] = np.arange(1, len(cells) + 1)
    return numbers[which].reshape(masks.shape)


def matched_iou(expected: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The IoU of each expected cell with its matched cell, (n_expected,); 0 without a match.

    Both are numbered from 1 without gaps. Cells are matched one to one so that most pairs reach an IoU of 0.5 and,
    among those ways, the sum of IoU is largest.
    """
    from scipy import sparse
    from scipy.sparse import csgraph

    ones = np.ones(expected.size, np.int32)
    overlaps = sparse.coo_array((ones, (expected.ravel(), seen.ravel()))).tocsr()
    expected_px, seen_px = overlaps.sum(axis=1)[1:], overlaps.sum(axis=0)[1:]
    pairs = overlaps[1:, 1:].tocoo()
    iou = pairs.data / (expected_px[pairs.row] + seen_px[pairs.col] - pairs.data)

    # Each expected cell may stay alone as well, at a column of its own, so that there is a matching of all of them.
    n_expected = len(expected_px)
    alone, gain = np.arange(n_expected), (iou >= 0.5) + iou / (2 * min(n_expected, len(seen_px)))
    rows, columns = np.append(alone, pairs.row), np.append(alone, n_expected + pairs.col)
    gains = sparse.coo_array((1 + np.append(np.zeros(n_expected), gain), (rows, columns))).tocsr()
    _, partner = csgraph.min_weight_full_bipartite_matching(gains, maximize=True)
    is_match = partner[pairs.row] == n_expected + pairs.col
    matched = np.zeros(n_expected)
    matched[pairs.row[is_match]] = iou[is_match]
    return matched


def _scores(iou: np.ndarray, n_expected: int, n_seen: int) -> tuple[float, float, float]:
    """ap50, ap90 and mean IoU from the IoU of each expected cell with its match."""
    n_matched = (int(np.count_nonzero(iou >= threshold)) for threshold in (0.5, 0.9))
    ap50, ap90 = (n / (n_expected + n_seen - n) for n in n_matched)
    return ap50, ap90, float(iou.mean())
