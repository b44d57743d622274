"""Replacements for cellpose's own post-processing functions; each gets the original first, for unsupported calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.engines.cellpose.variants import kernels

PADDING_PX = 20  # around the image, in which points that leave it may end (get_masks_torch)


def follow_flows(
    original: Callable[..., Any],
    dP: Any,  # noqa: N803
    inds: Any,
    niter: Any = 200,
    interp: bool = True,
    **rest: Any,
) -> Any:
    """dynamics.follow_flows in two dimensions; dP (2, height, width) float32. Bit-identical to its CPU path."""
    height, width = dP.shape[-2:]
    if len(inds) != 2 or dP.dtype != np.float32 or (height + 1) * (width + 1) >= 2**31:
        return original(dP, inds, niter=niter, interp=interp, **rest)
    points = np.stack([np.asarray(axis, np.float32) for axis in inds])
    flow = np.empty((height + 1, width + 1, 2), np.float32)
    flow[:-1, :-1] = dP.transpose(1, 2, 0)
    flow[-1], flow[:, -1] = flow[-2], flow[:, -2]
    kernels.follow(flow, points, int(np.uint32(niter)), bool(interp))
    return points


def get_masks(
    original: Callable[..., Any], pt: Any, inds: Any, shape0: Any, rpad: int = 20, max_size_fraction: float = 0.4
) -> np.ndarray:
    """dynamics.get_masks_torch in two dimensions: the same labels, without a loop over the seeds in Python."""
    import fastremap
    import torch

    if len(shape0) != 2:
        return original(pt, inds, shape0, rpad=rpad, max_size_fraction=max_size_fraction)
    height, width = (int(n) for n in shape0)
    points = pt.cpu().numpy() + PADDING_PX
    points = np.clip(points, 0, np.array([[height], [width]]) + PADDING_PX - 1).astype(np.int32)
    counts = kernels.histogram(points, height + 2 * PADDING_PX, width + 2 * PADDING_PX)
    seeds = kernels.peaks(counts)
    if not len(seeds):
        return np.zeros((height, width), np.uint16)
    # Torch's own sort, since the order of equal counts decides which seed wins.
    seeds = seeds[torch.from_numpy(counts[seeds[:, 0], seeds[:, 1]]).argsort().numpy()]
    labels = kernels.claim(counts, seeds)
    masks = np.zeros((height, width), np.uint16 if len(seeds) < 2**16 else np.uint32)
    masks[inds] = labels[points[0], points[1]]
    kinds, sizes = fastremap.unique(masks, return_counts=True)
    too_big = kinds[sizes > height * width * max_size_fraction]
    if len(too_big) > 1 or (len(too_big) and too_big[0] != 0):
        masks = fastremap.mask(masks, too_big)
    fastremap.renumber(masks, in_place=True)
    return masks.reshape(height, width)


def remove_bad_flow_masks(
    original: Callable[..., Any], masks: Any, flows: Any, threshold: float = 0.4, **rest: Any
) -> Any:
    """dynamics.remove_bad_flow_masks in two dimensions, by its CPU rule (each cell diffuses as long as it needs)."""
    if masks.ndim != 2 or flows.dtype != np.float32:
        return original(masks, flows, threshold=threshold, **rest)
    found = kernels.boxes(masks, int(masks.max(initial=0)))
    bad = np.concatenate(([False], kernels.flow_errors(masks, flows, found) > threshold))
    masks[bad[masks]] = 0
    return masks


def average_tiles(original: Callable[..., Any], y: Any, ysub: Any, xsub: Any, Ly: int, Lx: int) -> Any:  # noqa: N803
    """transforms.average_tiles, with cellpose's own taper."""
    from cellpose import transforms

    if y.dtype != np.float32:
        return original(y, ysub, xsub, Ly, Lx)
    tops, lefts = (np.array([int(at[0]) for at in sub]) for sub in (ysub, xsub))
    taper = np.ascontiguousarray(transforms._taper_mask(ly=y.shape[-2], lx=y.shape[-1]))
    return kernels.blend(np.ascontiguousarray(y), tops, lefts, taper, int(Ly), int(Lx))
