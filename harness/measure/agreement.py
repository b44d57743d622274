"""How well two label images of the same pixels agree: scores, and one word for them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Labels(Protocol):
    """Cells that were found in an image: (height, width) labels, 0 is background; a Segmentation is one."""

    @property
    def masks(self) -> np.ndarray: ...
    @property
    def n_cells(self) -> int: ...
    @property
    def diameter_px(self) -> float: ...


def compare(reference: Labels, found: Labels) -> dict[str, Any]:
    """The columns of one comparison; null where a score has no meaning, as between two images without cells.

    ap50, ap90: TP / (TP + FP + FN) of cells matched one to one at that IoU. mean_iou: over the reference's
    cells, 0 for one without a match. ValueError where the two are not of the same shape.
    """
    if reference.masks.shape != found.masks.shape:
        raise ValueError(f"label images of {reference.masks.shape} and {found.masks.shape} cannot be compared")
    expected, seen = in_order(reference.masks), in_order(found.masks)
    n_expected, n_seen = int(expected.max(initial=0)), int(seen.max(initial=0))
    if np.array_equal(expected, seen):
        word, scores = "identical", (1.0,) * 3 if n_expected else (None,) * 3
    elif not n_expected or not n_seen:
        word, scores = "different", (0.0, 0.0, 0.0 if n_expected else None)
    else:
        scores = _scores(expected, seen)
        word = verdict(n_expected, n_seen, *scores)
    return {
        **dict(zip(("ap50", "ap90", "mean_iou"), scores, strict=True)),
        "agreement": word,
        "reference_n_cells": reference.n_cells,
        "reference_diameter_px": reference.diameter_px,
    }


def verdict(n_expected: int, n_seen: int, ap50: float, ap90: float, mean_iou: float) -> str:
    """One word for scores that are not perfect: equivalent, close or different.

    A diameter that is off by 0.3 % moves every border to a mean IoU of 0.989: close, not equivalent.
    Below 100 cells equivalent means that every cell has its match; below 20, that a lost cell is different.
    """
    same_count = abs(n_seen - n_expected) <= max(1, 0.005 * n_expected)
    if ap50 >= 0.99 and ap90 >= 0.97 and mean_iou >= 0.99 and same_count:
        return "equivalent"
    return "close" if ap50 >= 0.95 and ap90 >= 0.90 else "different"


def in_order(masks: np.ndarray) -> np.ndarray:
    """The same cells, numbered 1..n in order of first appearance, as int32; 0 stays background."""
    labels, first, which = np.unique(masks.ravel(), return_index=True, return_inverse=True)
    cells = np.flatnonzero(labels)
    numbers = np.zeros(len(labels), np.int32)
    numbers[cells[np.argsort(first[cells])]] = np.arange(1, len(cells) + 1)
    return numbers[which].reshape(masks.shape)


def _scores(expected: np.ndarray, seen: np.ndarray) -> tuple[float, float, float]:
    """ap50, ap90 and mean IoU of two label images that both have cells, numbered from 1 without gaps.

    As in cellpose.metrics: the pairs are those with most matches, and among these with the largest sum of IoU.
    """
    from scipy.optimize import linear_sum_assignment

    n_expected, n_seen = int(expected.max()), int(seen.max())
    pairs = expected.astype(np.int64) * (n_seen + 1) + seen
    overlap_px = np.bincount(pairs.ravel(), minlength=(n_expected + 1) * (n_seen + 1)).reshape(n_expected + 1, -1)
    union_px = overlap_px.sum(1, keepdims=True) + overlap_px.sum(0, keepdims=True) - overlap_px
    iou = overlap_px[1:, 1:] / union_px[1:, 1:]

    def paired(threshold: float) -> np.ndarray:
        return iou[linear_sum_assignment((iou >= threshold) + iou / (2 * min(iou.shape)), maximize=True)]

    at50, at90 = paired(0.5), paired(0.9)
    n50, n90 = (int((found >= threshold).sum()) for found, threshold in ((at50, 0.5), (at90, 0.9)))
    return n50 / (n_expected + n_seen - n50), n90 / (n_expected + n_seen - n90), float(at50.sum()) / n_expected
