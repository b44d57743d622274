"""Replacements for cellpose's own post-processing functions; each gets the original first, for unsupported calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import get_num_threads
from torch.nn import functional

from harness.engines.cellpose.variants import kernels

NUMPY = int(np.__version__.partition(".")[0])
# The first upper half of the bits of a float32 (kernels.top_halves) that is no NaN, and the first after infinity.
NEGATIVE_INFINITY, POSITIVE_INFINITY = 0x007F, 0xFF81
LARGEST_PX = 2**30  # pixels are numbered with 32 bits
LARGEST_PINNED_BYTES = 2**29  # for the results of a network pass; torch keeps it for the next one


def compute_masks(
    original: Callable[..., Any],
    dP: Any,  # noqa: N803
    cellprob: Any,
    p: Any = None,
    niter: Any = 200,
    cellprob_threshold: float = 0.0,
    flow_threshold: float | None = 0.4,
    interp: bool = True,
    do_3D: bool = False,  # noqa: N803
    min_size: int = -1,
    **rest: Any,
) -> Any:
    """dynamics.compute_masks of Cellpose 3 in two dimensions, by its CPU's rules; dP (2, height, width) float32."""
    from cellpose import dynamics

    inside = cellprob > cellprob_threshold
    inds = np.nonzero(inside)
    is_other = do_3D or min_size > 0 or inside.ndim != 2 or dP.dtype != np.float32 or inside.size > LARGEST_PX
    if is_other or not len(inds[0]):
        return original(
            dP, cellprob, p, niter, cellprob_threshold, flow_threshold, interp, do_3D, min_size, **rest
        )  # fmt: skip
    device = rest.pop("device", torch.device("cpu"))
    ends = torch.from_numpy(follow(dP, inside, inds, niter, interp)).int()
    masks = dynamics.get_masks_torch(ends, inds, inside.shape, **rest)
    if flow_threshold is not None and flow_threshold > 0 and masks.any():
        masks = dynamics.remove_bad_flow_masks(masks, dP, threshold=flow_threshold, device=device)
    return masks.astype(np.uint16, copy=False) if masks.max() < 2**16 else masks


def follow(flows: np.ndarray, inside: np.ndarray, inds: Any, niter: Any, interp: bool) -> np.ndarray:
    """Where the pixels inds end, (2, n) float32: dynamics.follow_flows on its CPU with what compute_masks gives it."""
    points = np.stack([np.asarray(axis, np.float32) for axis in inds])
    kernels.follow(kernels.field(flows, inside), points, int(np.uint32(niter)), bool(interp))
    return points


def get_masks(
    original: Callable[..., Any], pt: Any, inds: Any, shape0: Any, rpad: int = 20, max_size_fraction: float = 0.4
) -> np.ndarray:
    """dynamics.get_masks_torch in two dimensions: the same labels, without a loop over the seeds in Python."""
    if len(shape0) != 2:
        return original(pt, inds, shape0, rpad=rpad, max_size_fraction=max_size_fraction)
    height, width = (int(n) for n in shape0)
    points = pt.cpu().numpy()
    counts = kernels.histogram(points, height, width)
    seeds = kernels.peaks(counts)
    masks = np.zeros((height, width), np.uint16 if len(seeds) < 2**16 else np.uint32)
    if len(seeds):
        # Torch's own sort, since the order of equal counts decides which seed wins.
        seeds = seeds[torch.from_numpy(counts[seeds[:, 0], seeds[:, 1]]).argsort().numpy()]
        labels, largest = kernels.claim(counts, seeds), height * width * max_size_fraction
        ys, xs = map(np.asarray, inds)
        kernels.assign(labels, len(seeds), points, ys, xs, masks, largest)
    return masks


def fill_holes_and_remove_small_masks(original: Callable[..., Any], masks: Any, min_size: int = 15) -> Any:
    """utils.fill_holes_and_remove_small_masks of Cellpose 3 in two dimensions; may write into masks."""
    if masks.ndim != 2 or min_size <= 0 or masks.dtype.kind != "u" or not masks.flags.c_contiguous:
        return original(masks, min_size=min_size)
    kept = _remove_small(masks, min_size)
    if kernels.fill_holes(masks, kernels.boxes(masks, len(kept))) or (kept < min_size).any():
        _remove_small(masks, min_size)
    return masks


def _remove_small(masks: np.ndarray, min_size: int) -> np.ndarray:
    """Remove small masks, as stock does, and number the others in order of appearance; returns their sizes in px."""
    sizes = kernels.sizes(masks, int(masks.max(initial=0)))
    # Stock counts the labels that are there, without the first one, and takes the nth of them for label n.
    counts = sizes[sizes > 0][1:]
    is_kept = np.ones(len(sizes), np.bool_)
    is_kept[1 + np.flatnonzero(counts < min_size)] = False
    return sizes[kernels.renumber(masks, is_kept)]


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
    return kernels.blend(np.ascontiguousarray(y), tops, lefts, taper, int(Ly), int(Lx)).transpose(2, 0, 1)


def run_net(
    original: Callable[..., Any],
    net: Any,
    imgi: Any,
    batch_size: int = 8,
    augment: bool = False,
    tile_overlap: float = 0.1,
    bsize: int = 224,
    rsz: Any = None,
    is_style_only: bool = False,
    is_queued: bool = False,
) -> Any:
    """core.run_net of Cellpose 3 for one image: each batch of tiles is cut when the network takes it.

    is_style_only: the flows are 0. is_queued: the device cuts the tiles, core._forward takes and returns its tensors,
    and the host waits once, after the last batch.
    """
    from cellpose import core, transforms

    if len(imgi) != 1 or imgi.dtype != np.float32 or augment:
        return original(net, imgi, batch_size, augment, tile_overlap, bsize, rsz)
    image = imgi[0] if rsz is None else transforms.resize_image(imgi[0], rsz=rsz)
    height, width = image.shape[:2]
    above, below, before, after = transforms.get_pad_yx(height, width)
    padded = height + above + below, width + before + after
    # Of an image without channels, cellpose cuts no pixels: this gives only the positions of the tiles.
    _, ysub, xsub, *_ = transforms.make_tiles(np.empty((0, *padded)), bsize=bsize, tile_overlap=tile_overlap)
    tops, lefts = (np.array([int(at[0]) for at in sub]) for sub in (ysub, xsub))
    size = min(bsize, padded[0]), min(bsize, padded[1])
    shapes = (0 if is_style_only else len(tops), net.nout, *size), (len(tops), 256)
    queued = _queued(net.device, image, (before, after, above, below), shapes) if is_queued else None
    there, (found, styles) = queued or (None, map(torch.empty, shapes))
    for i in range(0, len(tops), batch_size):
        some = slice(i, i + batch_size)
        if there is None:
            tiles = kernels.cut(image, tops[some] - above, lefts[some] - before, *size)
        else:
            corners = zip(tops[some], lefts[some], strict=True)
            tiles = torch.stack([there[:, y : y + size[0], x : x + size[1]] for y, x in corners])
        flows, style = core._forward(net, tiles)
        _copy(style, styles[some])
        if not is_style_only:
            _copy(flows, found[some])
    if there is not None:
        getattr(torch, net.device.type).current_stream(net.device).record_event().synchronize()
    style = styles.numpy().sum(axis=0)
    style /= (style**2).sum() ** 0.5
    if is_style_only:
        return np.zeros((1, height, width, net.nout), np.float32), style[None]
    whole = transforms.average_tiles(found.numpy(), ysub, xsub, *padded)
    inner = whole[None, :, above : above + height, before : before + width]
    return inner.transpose(0, 2, 3, 1), style[None]


def _copy(values: np.ndarray | torch.Tensor, into: torch.Tensor) -> None:
    """Copy results of the network; those on a device without waiting for it."""
    if isinstance(values, np.ndarray):
        into.numpy()[...] = values  # torch would start threads, which then spin on the cores of the next batch
    else:
        into.copy_(values, non_blocking=True)


def _queued(
    device: torch.device, image: np.ndarray, pads: Sequence[int], shapes: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, list[torch.Tensor]] | None:
    """An image (height, width, channels) on its way to a device, and pinned memory of these shapes for results.

    There it is (channels, height, width), with pads. None where that needs too much memory.
    """
    if 4 * sum(map(math.prod, shapes)) > LARGEST_PINNED_BYTES:
        return None
    try:
        memory = [torch.empty(shape, pin_memory=True) for shape in shapes]
        there = torch.from_numpy(np.ascontiguousarray(image)).pin_memory().to(device, non_blocking=True)
        return functional.pad(there.permute(2, 0, 1), pads), memory
    except RuntimeError:
        return None


def resize_image(original: Callable[..., Any], img0: Any, *args: Any, **kwargs: Any) -> Any:
    """transforms.resize_image, which copies a stack of images once more: not needed for a stack of one."""
    if img0.ndim == 4 and len(img0) == 1 and img0.shape[-1] > 1 and not kwargs.get("no_channels") and len(args) < 5:
        return original(img0[0], *args, **kwargs)[None]
    return original(img0, *args, **kwargs)


def normalize99(
    original: Callable[..., Any],
    Y: Any,  # noqa: N803
    lower: float = 1,
    upper: float = 99,
    copy: bool = True,
    downsample: bool = False,
) -> Any:
    """transforms.normalize99, with percentiles from counts of values instead of a partition."""
    if Y.dtype != np.float32 or Y.ndim < 2 or not Y.size or (downsample and Y.size > 224**3):
        return original(Y, lower, upper, copy, downsample)
    values = (Y.copy() if copy else Y).reshape(-1, Y.shape[-1])
    low, high = percentiles(values, (lower, upper))
    if high - low > 1e-3:
        values -= low
        values /= high - low
    else:
        values[:] = 0
    return values.reshape(Y.shape)


def percentiles(values: np.ndarray, shares: Sequence[float]) -> list[Any]:
    """numpy.percentile of values (height, width) float32 at each share in percent: the same bits."""
    counts = kernels.top_halves(values, get_num_threads())
    totals = counts.sum(axis=0)
    ends = totals.cumsum()
    has_nan = ends[NEGATIVE_INFINITY - 1] or ends[-1] != ends[POSITIVE_INFINITY - 1]
    if has_nan or not _is_known_percentile():
        return [np.percentile(values, share) for share in shares]
    members: dict[int, np.ndarray] = {}

    def ordered(rank: int) -> np.float32:
        half = int(np.searchsorted(ends, rank, side="right"))
        if half not in members:
            members[half] = kernels.with_top_half(values, half, counts[:, half])
        within = rank - int(ends[half] - totals[half])
        return np.partition(members[half], within)[within]

    return [_percentile(ordered, values.size, share) for share in shares]


def _percentile(ordered: Callable[[int], np.float32], n: int, share: float) -> Any:
    """numpy.percentile of n values float32, of which ordered() gives the one of a rank, in numpy's own arithmetic."""
    at = (n - 1) * np.true_divide(share, np.float32(100) if NUMPY >= 2 else 100)
    before = np.floor(at)
    a, b = (ordered(min(int(rank), n - 1)) for rank in (before, before + 1))
    weight = at - before
    return b - (b - a) * (1 - weight) if weight >= 0.5 else a + (b - a) * weight


@cache
def _is_known_percentile() -> bool:
    """Whether this numpy has the arithmetic that _percentile repeats."""
    values = np.sort(np.random.default_rng(0).standard_normal(1003).astype(np.float32))
    found = (
        (_percentile(values.__getitem__, len(values), share), np.percentile(values, share)) for share in range(100)
    )
    return all(ours == theirs and ours.dtype == theirs.dtype for ours, theirs in found)


def dx_to_circ(original: Callable[..., Any], dP: Any) -> Any:  # noqa: N803
    """plot.dx_to_circ in two dimensions, block by block on all cores; angles and cosines are numpy's own."""
    if dP.ndim != 3 or len(dP) != 2 or dP.dtype != np.float32 or not dP.size:
        return original(dP)
    lengths = normalize99(original, kernels.magnitude(dP), copy=False)
    colours = np.empty((*dP.shape[1:], 3), np.uint8)

    def block(top: int) -> None:
        rows = slice(top, top + 16)
        angles = np.arctan2(dP[1, rows], dP[0, rows]) + np.pi
        waves = np.empty((3, *angles.shape), np.float32)
        for wave, shift in zip(waves, (0, 2 * np.pi / 3, 4 * np.pi / 3), strict=True):
            np.cos(angles + shift, out=wave)
        kernels.colour(lengths[rows], waves, colours[rows])

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(block, range(0, len(colours), 16)))
    return colours
