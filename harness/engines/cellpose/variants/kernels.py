"""Cellpose's post-processing, compiled: the same operations on the same numbers in the same order, so the same bits.

The gain: no temporaries, all cores, and pixels at rest are skipped. Nothing here is an approximation; tests compare
every kernel with stock cellpose bit by bit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

CHUNK = 512  # pixels that are moved together: their state stays in the first-level cache
REACH = 5  # px from a seed within which stock cellpose looks for the pixels that belong to it


@njit(cache=True, inline="always")
def _bilinear(flow, y, x):
    """One step of dynamics.map_coordinates and the clamp after it.

    Numba gives 1 - fraction as float64 and products of float32 as float32, so the four terms are of mixed precision.
    """
    height, width = flow.shape[0], flow.shape[1]
    top, left = int(y), int(x)
    fy, fx = np.float32(y - top), np.float32(x - left)
    gy, gx = 1 - np.float64(fy), 1 - np.float64(fx)
    bottom, right = min(height - 1, top + 1), min(width - 1, left + 1)
    dy = np.float32(
        flow[top, left, 0] * gy * gx + flow[top, right, 0] * gy * fx
        + flow[bottom, left, 0] * fy * gx + flow[bottom, right, 0] * fy * fx
    )  # fmt: skip
    dx = np.float32(
        flow[top, left, 1] * gy * gx + flow[top, right, 1] * gy * fx
        + flow[bottom, left, 1] * fy * gx + flow[bottom, right, 1] * fy * fx
    )  # fmt: skip
    new_y = min(np.float32(height - 1), max(np.float32(0), np.float32(y + dy)))
    new_x = min(np.float32(width - 1), max(np.float32(0), np.float32(x + dx)))
    return new_y, new_x


@njit(cache=True, inline="always")
def _nearest(flow, y, x):
    """One step of dynamics.steps2D."""
    top, left = int(y), int(x)
    new_y = min(np.float32(flow.shape[0] - 1), max(np.float32(0), np.float32(y + flow[top, left, 0])))
    new_x = min(np.float32(flow.shape[1] - 1), max(np.float32(0), np.float32(x + flow[top, left, 1])))
    return new_y, new_x


@njit(cache=True, parallel=True, nogil=True)
def follow(flow, points, n_steps, bilinear):
    """Move points (2, n) float32 along flow (height, width, 2) float32, in place, n_steps times.

    A step depends on nothing but where the point is. So one that did not move never will, and one that is back where
    it was goes round in circles: what is left of its steps, modulo the circle's length, is all it needs (Brent).
    """
    n = points.shape[1]
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        first = chunk * CHUNK
        n_moving = min(CHUNK, n - first)
        moving = np.empty(n_moving, np.int64)
        seen = np.empty((2, n_moving), np.float32)
        for a in range(n_moving):
            moving[a] = first + a
            seen[0, a], seen[1, a] = points[0, first + a], points[1, first + a]
        seen_at = 0
        for step in range(1, n_steps + 1):
            kept = 0
            for a in range(n_moving):
                i = moving[a]
                y, x = points[0, i], points[1, i]
                new_y, new_x = _bilinear(flow, y, x) if bilinear else _nearest(flow, y, x)
                if new_y == y and new_x == x:
                    continue
                if new_y == seen[0, a] and new_x == seen[1, a]:
                    for _ in range((n_steps - step) % (step - seen_at)):
                        new_y, new_x = _bilinear(flow, new_y, new_x) if bilinear else _nearest(flow, new_y, new_x)
                    points[0, i], points[1, i] = new_y, new_x
                    continue
                points[0, i], points[1, i] = new_y, new_x
                moving[kept] = i
                seen[0, kept], seen[1, kept] = seen[0, a], seen[1, a]
                kept += 1
            n_moving = kept
            if n_moving == 0:
                break
            if step >= 2 * seen_at:
                seen_at = step
                for a in range(n_moving):
                    seen[0, a], seen[1, a] = points[0, moving[a]], points[1, moving[a]]


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
