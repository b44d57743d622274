"""Cellpose 4.2's quality control, compiled: its CPU's operations on the same numbers in the same order.

Unlike Cellpose 3's, every mask diffuses as long as the largest one needs, and a mask's gradient sees its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange

from harness.engines.cellpose.variants import kernels

LARGEST_PX = 4e7  # above it cellpose diffuses in float32


def remove_bad_flow_masks(
    original: Callable[..., Any], masks: Any, flows: Any, threshold: float = 0.4, **rest: Any
) -> Any:
    """dynamics.remove_bad_flow_masks in two dimensions; masks (height, width), flows (2, height, width) float32."""
    import fastremap

    if masks.ndim != 2 or flows.dtype != np.float32 or (masks.shape[0] + 2) * (masks.shape[1] + 2) > LARGEST_PX:
        return original(masks, flows, threshold=threshold, **rest)
    bad = 1 + np.flatnonzero(flow_errors(masks, flows) > threshold)
    fastremap.mask(masks, bad, in_place=True)
    fastremap.renumber(masks, in_place=True)
    return masks


def flow_errors(masks: np.ndarray, flows: np.ndarray) -> np.ndarray:
    """dynamics.flow_error of masks 1..n without gaps: mean squared difference of flows, (n,) float64."""
    n = int(masks.max(initial=0))
    found = kernels.boxes(masks, n)
    heights, widths = found[:, 1] - found[:, 0], found[:, 3] - found[:, 2]
    n_steps = 2 * int((heights + widths + 2).max(initial=0))
    heat = _heat(masks, found, n_steps)
    ends = np.cumsum(np.bincount(masks.ravel(), minlength=n + 1)[1:])
    errors = _pixel_errors(masks, np.asarray(flows), heat, found, ends)
    # numpy's own mean, whose order of summation is not ours to repeat.
    return np.array([part.mean() for part in np.split(errors, ends[:-1])])


@njit(cache=True, inline="always")
def _centre(masks, label, box):
    """The pixel at a mask's rounded mean, or the mask's first pixel that is nearest to it; in its box."""
    top, bottom, left, right = box
    n, sum_y, sum_x = 0, 0, 0
    for y in range(top, bottom):
        for x in range(left, right):
            if masks[y, x] == label:
                n += 1
                sum_y += y - top
                sum_x += x - left
    mean_y, mean_x = int(np.rint(sum_y / n)), int(np.rint(sum_x / n))
    best, at_y, at_x = -1, 0, 0
    for y in range(top, bottom):
        for x in range(left, right):
            if masks[y, x] == label:
                far = (x - left - mean_x) ** 2 + (y - top - mean_y) ** 2
                if best < 0 or far < best:
                    best, at_y, at_x = far, y - top, x - left
    return at_y, at_x


@njit(cache=True, parallel=True, nogil=True)
def _heat(masks, found, n_steps):
    """dynamics._extend_centers_gpu before its gradient: (height + 2, width + 2) float64, a border of 1 around."""
    full = np.zeros((masks.shape[0] + 2, masks.shape[1] + 2))
    for i in prange(len(found)):
        top, bottom, left, right = found[i]
        at_y, at_x = _centre(masks, i + 1, (top, bottom, left, right))
        height, width = bottom - top + 2, right - left + 2
        inside = np.zeros((height, width))
        for y in range(top, bottom):
            for x in range(left, right):
                inside[y - top + 1, x - left + 1] = masks[y, x] == i + 1
        heat, other = np.zeros((height, width)), np.zeros((height, width))
        heat = kernels.diffuse(heat, other, inside, at_y + 1, at_x + 1, n_steps, True)
        for y in range(top, bottom):
            for x in range(left, right):
                if masks[y, x] == i + 1:
                    full[y + 1, x + 1] = heat[y - top + 1, x - left + 1]
    return full


@njit(cache=True, parallel=True, nogil=True)
def _pixel_errors(masks, flows, heat, found, ends):
    """Squared difference of flows at each pixel, the masks' pixels one mask after another, (ends[-1],) float64."""
    errors = np.empty(ends[-1])
    five = np.float32(5)
    for i in prange(len(found)):
        top, bottom, left, right = found[i]
        at = 0 if i == 0 else ends[i - 1]
        for y in range(top, bottom):
            for x in range(left, right):
                if masks[y, x] == i + 1:
                    dy = heat[y + 2, x + 1] - heat[y, x + 1]
                    dx = heat[y + 1, x + 2] - heat[y + 1, x]
                    norm = 1e-60 + np.sqrt(dy * dy + dx * dx)
                    off_y = dy / norm - np.float64(np.float32(flows[0, y, x] / five))
                    off_x = dx / norm - np.float64(np.float32(flows[1, y, x] / five))
                    errors[at] = off_y * off_y + off_x * off_x
                    at += 1
    return errors
