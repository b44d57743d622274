"""Cellpose's post-processing, compiled: the same operations on the same numbers in the same order, so the same bits.

The gain: no temporaries, all cores, and pixels at rest are skipped. Nothing here is an approximation; tests compare
every kernel with stock cellpose bit by bit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

CHUNK = 512  # pixels that are moved together: their state stays in the first-level cache
STEPS = 16  # after which pixels at rest are left alone
REACH = 5  # px from a seed within which stock cellpose looks for the pixels that belong to it


@njit(cache=True, parallel=True, nogil=True)
def follow(flow, points, n_steps, bilinear):
    """Move points (2, n) float32 along flow, in place, n_steps times: dynamics.steps_interp or dynamics.steps2D.

    flow (height + 1, width + 1, 2) float32: its last row and column are repeated. A step depends on nothing but where
    the point is, so one that did not move never will. Loops are separate, or the compiler would not vectorise them.
    """
    pairs = flow.reshape(-1).view(np.int64)  # both numbers of a pixel at once
    row, zero = np.int32(flow.shape[1]), np.float32(0)
    bottom, right = np.float32(flow.shape[0] - 2), np.float32(flow.shape[1] - 2)
    n = points.shape[1]
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        first = chunk * CHUNK
        n_moving = min(CHUNK, n - first)
        moving = np.arange(first, first + n_moving)
        y, x = points[0, first : first + n_moving].copy(), points[1, first : first + n_moving].copy()
        new_y, new_x, at = np.empty_like(y), np.empty_like(x), np.empty(n_moving, np.int32)
        corners = np.empty((4, n_moving), np.int64)
        values = corners.view(np.float32)
        for step in range(1, n_steps + 1):
            for a in range(n_moving):
                at[a] = np.int32(y[a]) * row + np.int32(x[a])
            if bilinear:
                for a in range(n_moving):
                    i = np.uint32(at[a])
                    corners[0, a], corners[1, a] = pairs[i], pairs[i + np.uint32(1)]
                    i += np.uint32(row)
                    corners[2, a], corners[3, a] = pairs[i], pairs[i + np.uint32(1)]
                # Numba gives 1 - fraction as float64 and products of float32 as float32, so the four terms of
                # dynamics.map_coordinates are of mixed precision.
                for a in range(n_moving):
                    fy, fx = y[a] - np.float32(np.int32(y[a])), x[a] - np.float32(np.int32(x[a]))
                    gy, gx = 1 - np.float64(fy), 1 - np.float64(fx)
                    dy = np.float32(
                        values[0, 2 * a] * gy * gx + values[1, 2 * a] * gy * fx
                        + values[2, 2 * a] * fy * gx + values[3, 2 * a] * fy * fx
                    )  # fmt: skip
                    dx = np.float32(
                        values[0, 2 * a + 1] * gy * gx + values[1, 2 * a + 1] * gy * fx
                        + values[2, 2 * a + 1] * fy * gx + values[3, 2 * a + 1] * fy * fx
                    )  # fmt: skip
                    new_y[a] = min(bottom, max(zero, y[a] + dy))
                    new_x[a] = min(right, max(zero, x[a] + dx))
            else:
                for a in range(n_moving):
                    corners[0, a] = pairs[np.uint32(at[a])]
                for a in range(n_moving):
                    new_y[a] = min(bottom, max(zero, y[a] + values[0, 2 * a]))
                    new_x[a] = min(right, max(zero, x[a] + values[0, 2 * a + 1]))
            if step % STEPS:
                y, new_y = new_y, y
                x, new_x = new_x, x
                continue
            kept = 0
            for a in range(n_moving):
                i, has_moved = moving[a], (new_y[a] != y[a]) | (new_x[a] != x[a])
                points[0, i], points[1, i] = new_y[a], new_x[a]
                moving[kept], y[kept], x[kept] = i, new_y[a], new_x[a]
                kept += has_moved
            n_moving = kept
            if n_moving == 0:
                break
        for a in range(n_moving):
            points[0, moving[a]], points[1, moving[a]] = y[a], x[a]


@njit(cache=True, nogil=True)
def histogram(points, height, width):
    """The number of points (2, n) int32 that ended on each pixel of a (height, width) field, int32."""
    counts = np.zeros((height, width), np.int32)
    for i in range(points.shape[1]):
        counts[points[0, i], points[1, i]] += 1
    return counts


@njit(cache=True, nogil=True)
def peaks(counts):
    """Pixels with more than 10 points and no better neighbour within 2 px, (n, 2) int64 in raster order."""
    height, width = counts.shape
    found = np.empty((counts.size // 2 + 1, 2), np.int64)
    n = 0
    for y in range(height):
        for x in range(width):
            here = counts[y, x]
            if here <= 10:
                continue
            best = True
            for ny in range(max(0, y - 2), min(height, y + 3)):
                for nx in range(max(0, x - 2), min(width, x + 3)):
                    if counts[ny, nx] > here:
                        best = False
            if best:
                if n == len(found):
                    found = np.concatenate((found, np.empty_like(found)))
                found[n, 0], found[n, 1] = y, x
                n += 1
    return found[:n].copy()


@njit(cache=True, nogil=True)
def claim(counts, seeds):
    """Labels 1..n, (height, width) int32: each seed takes what it reaches in 5 steps over pixels with more than 2.

    Later seeds take from earlier ones, as in stock cellpose. Seeds lie at least 5 px inside the field.
    """
    side = 2 * REACH + 1
    labels = np.zeros(counts.shape, np.int32)
    for k in range(len(seeds)):
        y0, x0 = seeds[k, 0] - REACH, seeds[k, 1] - REACH
        reached = np.zeros((side, side), np.bool_)
        reached[REACH, REACH] = True
        for _ in range(REACH):
            grown = np.zeros((side, side), np.bool_)
            for y in range(side):
                for x in range(side):
                    if reached[y, x]:
                        for ny in range(max(0, y - 1), min(side, y + 2)):
                            for nx in range(max(0, x - 1), min(side, x + 2)):
                                grown[ny, nx] = counts[y0 + ny, x0 + nx] > 2
            reached = grown
        for y in range(side):
            for x in range(side):
                if reached[y, x]:
                    labels[y0 + y, x0 + x] = k + 1
    return labels


@njit(cache=True, nogil=True)
def boxes(masks, n):
    """Bounding boxes of labels 1..n as (n, 4) int64: top, bottom, left, right, ends exclusive; bottom 0 if absent."""
    height, width = masks.shape
    found = np.zeros((n, 4), np.int64)
    for y in range(height):
        for x in range(width):
            i = np.int64(masks[y, x]) - 1
            if i >= 0:
                if found[i, 1] == 0:
                    found[i, 0], found[i, 2], found[i, 3] = y, x, x + 1
                found[i, 1] = y + 1
                found[i, 2] = min(found[i, 2], x)
                found[i, 3] = max(found[i, 3], x + 1)
    return found


@njit(cache=True, inline="always")
def _centre(masks, label, box):
    """A mask's pixel nearest to its mean (first in raster order) and its size, in the box with a border of 1."""
    top, bottom, left, right = box
    n, sum_y, sum_x = 0, 0.0, 0.0
    for y in range(top, bottom):
        for x in range(left, right):
            if masks[y, x] == label:
                n += 1
                sum_y += y - top + 1
                sum_x += x - left + 1
    mean_y, mean_x = sum_y / n, sum_x / n
    best, at_y, at_x = np.inf, 0, 0
    for y in range(top, bottom):
        for x in range(left, right):
            if masks[y, x] == label:
                far = (x - left + 1 - mean_x) ** 2 + (y - top + 1 - mean_y) ** 2
                if far < best:
                    best, at_y, at_x = far, y - top + 1, x - left + 1
    return n, at_y, at_x


@njit(cache=True, inline="always")
def _diffuse(heat, other, inside, at_y, at_x, n_steps):
    """dynamics._extend_centers: heat enters at the centre and spreads to the 3 × 3 neighbours inside the mask."""
    for _ in range(n_steps):
        heat[at_y, at_x] += 1
        for y in range(1, heat.shape[0] - 1):
            above, here, below = heat[y - 1], heat[y], heat[y + 1]
            target, within = other[y, 1:], inside[y, 1:]
            for x in range(heat.shape[1] - 2):
                target[x] = within[x] * (1 / 9.0 * (
                    here[x + 1] + above[x + 1] + below[x + 1] + here[x] + here[x + 2]
                    + above[x] + above[x + 2] + below[x] + below[x + 2]
                ))  # fmt: skip
        heat, other = other, heat
    return heat


@njit(cache=True, parallel=True, nogil=True)
def flow_errors(masks, flows, found):
    """metrics.flow_error: mean squared difference between each mask's own flows and the network's, (n,) float64.

    masks (height, width) integers; flows (2, height, width) float32; found as from boxes(); NaN for absent labels.
    """
    errors = np.full(len(found), np.nan)
    five = np.float32(5)
    for i in prange(len(found)):
        top, bottom, left, right = found[i]
        if bottom == 0:
            continue
        n, at_y, at_x = _centre(masks, i + 1, (top, bottom, left, right))
        height, width = bottom - top + 2, right - left + 2
        inside = np.zeros((height, width))
        for y in range(top, bottom):
            for x in range(left, right):
                inside[y - top + 1, x - left + 1] = masks[y, x] == i + 1
        heat, other = np.zeros((height, width)), np.zeros((height, width))
        heat = _diffuse(heat, other, inside, at_y, at_x, 2 * (height + width))
        error_y, error_x = 0.0, 0.0
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                if inside[y, x] != 0:
                    dy, dx = heat[y + 1, x] - heat[y - 1, x], heat[y, x + 1] - heat[y, x - 1]
                    norm = 1e-60 + math.sqrt(dy * dy + dx * dx)
                    off_y = dy / norm - np.float64(np.float32(flows[0, top + y - 1, left + x - 1] / five))
                    off_x = dx / norm - np.float64(np.float32(flows[1, top + y - 1, left + x - 1] / five))
                    error_y += off_y * off_y
                    error_x += off_x * off_x
        errors[i] = error_y / n + error_x / n
    return errors


@njit(cache=True, parallel=True, nogil=True)
def blend(tiles, tops, lefts, taper, height, width):
    """transforms.average_tiles: tiles (n, channels, h, w) float32 to (channels, height, width), tapered by float64."""
    n, n_channels, tile_height, tile_width = tiles.shape
    out = np.zeros((n_channels, height, width), np.float32)
    for y in prange(height):
        weight = np.zeros(width)
        for j in range(n):
            ty = y - tops[j]
            if ty < 0 or ty >= tile_height:
                continue
            for x in range(tile_width):
                weight[lefts[j] + x] += taper[ty, x]
            for c in range(n_channels):
                for x in range(tile_width):
                    at = lefts[j] + x
                    out[c, y, at] = np.float32(np.float64(out[c, y, at]) + tiles[j, c, ty, x] * taper[ty, x])
        for c in range(n_channels):
            for x in range(width):
                out[c, y, x] = np.float32(out[c, y, x] / weight[x])
    return out
