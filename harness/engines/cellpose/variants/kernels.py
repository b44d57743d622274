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
PADDING = 20  # px around the image, in which points that leave it may end (get_masks_torch)
REACH = 5  # px from a seed within which stock cellpose looks for the pixels that belong to it


@njit(cache=True, parallel=True, nogil=True)
def field(flows, inside):
    """What follow() takes: flows (2, height, width) float32 * inside (height, width) bool / 5."""
    height, width = inside.shape
    out, five = np.empty((height + 1, width + 1, 2), np.float32), np.float32(5)
    for y in prange(height + 1):
        row = min(np.int64(y), height - 1)
        for x in range(width):
            weight = np.float32(inside[row, x])
            out[y, x, 0] = flows[0, row, x] * weight / five
            out[y, x, 1] = flows[1, row, x] * weight / five
        out[y, width] = out[y, width - 1]
    return out


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


@njit(cache=True, inline="always")
def _padded(at, size):
    return min(max(at + PADDING, 0), size + PADDING - 1)


@njit(cache=True, nogil=True)
def histogram(points, height, width):
    """The number of points (2, n) int32 that ended on each pixel of a field with PADDING around it, int32."""
    counts = np.zeros((height + 2 * PADDING, width + 2 * PADDING), np.int32)
    for i in range(points.shape[1]):
        counts[_padded(points[0, i], height), _padded(points[1, i], width)] += 1
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
def assign(labels, n, points, ys, xs, masks, largest):
    """Give pixels ys, xs of masks, in raster order, the labels 1..n at which their points (2, n_pixels) int32 ended.

    Labels with more pixels than largest are left out, and the others are numbered in order of appearance.
    """
    height, width = masks.shape
    sizes, new = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    found = np.empty(len(ys), np.int32)
    for i in range(len(ys)):
        found[i] = labels[_padded(points[0, i], height), _padded(points[1, i], width)]
        sizes[found[i]] += 1
    n_kept = 0
    for i in range(len(ys)):
        label = found[i]
        if label and sizes[label] <= largest:
            if new[label] == 0:
                n_kept += 1
                new[label] = n_kept
            masks[ys[i], xs[i]] = new[label]


@njit(cache=True, nogil=True)
def sizes(masks, n):
    """The number of pixels of labels 0..n, (n + 1,) int64."""
    counts = np.zeros(n + 1, np.int64)
    for y in range(masks.shape[0]):
        for x in range(masks.shape[1]):
            if masks[y, x]:
                counts[masks[y, x]] += 1
    counts[0] = masks.size - counts.sum()
    return counts


@njit(cache=True, nogil=True)
def renumber(masks, is_kept):
    """Number the labels that are kept in order of appearance, in place; returns their earlier numbers."""
    new, old, n = np.zeros(len(is_kept), np.int64), np.empty(len(is_kept), np.int64), 0
    for y in range(masks.shape[0]):
        for x in range(masks.shape[1]):
            label = masks[y, x]
            if label == 0:
                continue
            if is_kept[label] and new[label] == 0:
                old[n] = label
                n += 1
                new[label] = n
            masks[y, x] = new[label]
    return old[:n]


@njit(cache=True, nogil=True)
def fill_holes(masks, found):
    """Fill holes of label after label, in place, whatever is in them; found as from boxes(). True if there were any."""
    any_filled = False
    for i in range(len(found)):
        top, bottom, left, right = found[i]
        height, width = bottom - top + 2, right - left + 2
        is_open = np.ones(height * width, np.bool_)  # with a border of 1 around the box
        for y in range(top, bottom):
            for x in range(left, right):
                is_open[(y - top + 1) * width + x - left + 1] = masks[y, x] != i + 1
        # What the outside reaches by its four neighbours is closed, so what is open afterwards is a hole.
        waiting = np.empty(height * width, np.int64)
        waiting[0], is_open[0], n = 0, False, 1
        while n:
            n -= 1
            at = waiting[n]
            x = at % width
            for is_within, neighbour in (
                (at >= width, at - width), (at + width < height * width, at + width), (x > 0, at - 1),
                (x + 1 < width, at + 1),
            ):  # fmt: skip
                if is_within and is_open[neighbour]:
                    is_open[neighbour] = False
                    waiting[n] = neighbour
                    n += 1
        for y in range(top, bottom):
            for x in range(left, right):
                if is_open[(y - top + 1) * width + x - left + 1]:
                    masks[y, x] = i + 1
                    any_filled = True
    return any_filled


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
def diffuse(heat, other, inside, at_y, at_x, n_steps, is_mean):
    """dynamics._extend_centers: heat enters at the centre and spreads to the 3 × 3 neighbours inside the mask.

    All (height, width) float64 with a border of 1 that is outside. is_mean: a sum is divided by 9, as torch does it,
    else multiplied by 1 / 9. The rows are one line, which the compiler vectorises from end to end.
    """
    width = heat.shape[1]
    n, centre = heat.size - 2 * width - 2, at_y * width + at_x
    old, new, within = heat.reshape(-1), other.reshape(-1), inside.reshape(-1)[width + 1 :]
    for _ in range(n_steps):
        old[centre] += 1
        above, here, below, target = old, old[width:], old[2 * width :], new[width + 1 :]
        for x in range(n):
            total = (
                here[x + 1] + above[x + 1] + below[x + 1] + here[x] + here[x + 2]
                + above[x] + above[x + 2] + below[x] + below[x + 2]
            )  # fmt: skip
            target[x] = within[x] * (total / 9.0 if is_mean else 1 / 9.0 * total)
        old, new = new, old
    return old.reshape(heat.shape)


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
        heat = diffuse(heat, other, inside, at_y, at_x, 2 * (height + width), False)
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
    """transforms.average_tiles: tiles (n, channels, h, w) float32 to (height, width, channels), tapered by float64."""
    n, n_channels, tile_height, tile_width = tiles.shape
    out = np.empty((height, width, n_channels), np.float32)
    for y in prange(height):
        weight, total = np.zeros(width), np.zeros((n_channels, width), np.float32)
        for j in range(n):
            ty = y - tops[j]
            if ty < 0 or ty >= tile_height:
                continue
            for x in range(tile_width):
                weight[lefts[j] + x] += taper[ty, x]
            for c in range(n_channels):
                for x in range(tile_width):
                    at = lefts[j] + x
                    total[c, at] = np.float32(np.float64(total[c, at]) + tiles[j, c, ty, x] * taper[ty, x])
        for c in range(n_channels):
            for x in range(width):
                out[y, x, c] = np.float32(total[c, x] / weight[x])
    return out


@njit(cache=True, parallel=True, nogil=True)
def cut(image, tops, lefts, tile_height, tile_width):
    """Tiles (n, channels, tile_height, tile_width) of an image (height, width, channels) float32, 0 outside it."""
    height, width, n_channels = image.shape
    tiles = np.empty((len(tops), n_channels, tile_height, tile_width), np.float32)
    for i in prange(len(tops) * tile_height):
        j, ty = i // tile_height, i % tile_height
        y = tops[j] + ty
        first, last = max(0, -lefts[j]), min(tile_width, width - lefts[j])
        for c in range(n_channels):
            row = tiles[j, c, ty]
            if y < 0 or y >= height:
                row[:] = 0
                continue
            row[:first] = 0
            for x in range(first, last):
                row[x] = image[y, lefts[j] + x, c]
            row[max(first, last) :] = 0
    return tiles


@njit(cache=True, parallel=True, nogil=True)
def top_halves(values, n):
    """The number of values (height, width) float32 with each upper half of their bits, in order of the values.

    (n, 65,536) int64, one line for each of n parts of the rows; NaN come first and last.
    """
    counts = np.zeros((n, 2**16), np.int64)
    for part in prange(n):
        own = counts[part]
        for y in range(part * len(values) // n, (part + 1) * len(values) // n):
            for x in range(values.shape[1]):
                own[_top_half(values[y, x])] += 1
    return counts


@njit(cache=True, parallel=True, nogil=True)
def with_top_half(values, half, counts):
    """The values with that upper half of their bits; counts: how many of them each part of the rows has."""
    n = len(counts)
    ends = np.cumsum(counts)
    found = np.empty(ends[-1], np.float32)
    for part in prange(n):
        at = ends[part] - counts[part]
        for y in range(part * len(values) // n, (part + 1) * len(values) // n):
            for x in range(values.shape[1]):
                if _top_half(values[y, x]) == half:
                    found[at] = values[y, x]
                    at += 1
    return found


@njit(cache=True, inline="always")
def _top_half(value):
    bits = np.float32(value).view(np.int32)
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 16) + 2**15


@njit(cache=True, parallel=True, nogil=True)
def magnitude(flows):
    """The length of flows (2, height, width) float32 at each pixel."""
    out = np.empty(flows.shape[1:], np.float32)
    for y in prange(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = np.sqrt(flows[0, y, x] * flows[0, y, x] + flows[1, y, x] * flows[1, y, x])
    return out


@njit(cache=True, nogil=True)
def colour(lengths, waves, out):
    """The colours of plot.dx_to_circ, (height, width, 3) uint8: lengths (height, width), waves (3, height, width)."""
    one, half, largest = np.float32(1), np.float32(2), np.float32(255)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            length = largest * min(one, max(np.float32(0), lengths[y, x])) / half
            for c in range(3):
                out[y, x, c] = np.uint8(min(largest, max(np.float32(0), length * (waves[c, y, x] + one))))
