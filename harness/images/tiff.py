"""One plane of a TIFF file, exactly as it is stored, or the reason why not.

Where tifffile would guess, log or fill with zeros, this raises an error: a benchmark requires exact input. A file may
come from anywhere, so each size that it declares is checked before memory is allocated.
"""

from __future__ import annotations

import logging
import math
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import psutil

from harness.errors import CellbenchError
from harness.images import photometric

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

# 2**31 px are 8 GiB as float32, and cellpose needs many times that: no machine could segment more.
MAX_PIXELS = 2**31
# A file that packs pixels more tightly than this is a bomb, not an image: deflate and LZW cannot, and noise never does.
# Small ones are safe, whatever they contain.
MAX_RATIO = 3000
HARMLESS_BYTES = 64 * 2**20
MAX_COMPLAINTS = 100  # of tifffile about one file: it would go through millions of damaged pages, one by one

TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, little- and big-endian
CHANNEL_AXES = "CS"  # tifffile's channels and samples (RGB)

SAVE_ONE = "save the plane to be measured as a TIFF file of its own"
SAVE_AGAIN = "copy it again from where it came from, or open it in Fiji and save it as TIFF"


def check_file(path: str, built_in: tuple[str, ...]) -> None:
    """Reject a file that is unreadable, not regular (a pipe would block for ever), or does not start like a TIFF."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise CellbenchError(f"the image is {kind}", path, "name one TIFF file")
        with open(path, "rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        fix = f"check the path, or use a built-in image: {', '.join(built_in)}"
        raise CellbenchError("there is no such image", path, fix) from None
    except OSError as error:
        raise CellbenchError(
            f"the image cannot be opened: {error.strerror}", path, "check the path and its permissions"
        ) from error
    except ValueError:  # a NUL in the name, which a profile can hold
        raise CellbenchError("there can be no image of such a name", repr(path), "check the path") from None
    if not start:
        raise CellbenchError("the image file is empty", path, SAVE_AGAIN)
    if start not in TIFF_MAGICS:
        raise CellbenchError("the file is not a TIFF", path, "open it in Fiji and save it as TIFF")


def read(path: str, plane: int | None, channel: int | None) -> np.ndarray:
    """Read one plane as it is stored; (height, width), any type."""
    from tifffile import TiffFile

    with _complaints() as complaints:
        try:
            # Not _multifile: an OME file may name any other file of this machine, and tifffile would open it.
            with TiffFile(path, _multifile=False) as tiff:
                _check_alone(tiff, path)
                len(tiff.pages)  # finds the last page; a chain of pages that leads back would be read without end
                series = _only_series(tiff, path)
                _check_complete(series, tiff.filehandle.size, path)
                _check_meaning(series, path)
                if complaints:
                    raise _unreadable(path, complaints[0])
                index = _pick(series, plane, channel, path)
                pixels = series.asarray()
        except CellbenchError:
            raise
        except Exception as error:  # tifffile and its codecs raise nearly anything over a damaged file
            raise _unreadable(path, str(error) or type(error).__name__) from error
    if pixels.shape != series.shape:
        raise _unreadable(path, f"it declares {_size(series.shape)} pixels and holds {_size(pixels.shape)}")
    return photometric.light(np.ascontiguousarray(pixels[index]), series.keyframe)


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Keep tifffile's warnings off the terminal and collect the errors that it only logs."""
    complaints: list[str] = []
    handler = logging.Handler(logging.ERROR)

    def note(record: logging.LogRecord) -> None:
        complaints.append(record.getMessage())
        if len(complaints) > MAX_COMPLAINTS:
            raise ValueError(complaints[0])

    handler.emit = note
    logger = logging.getLogger("tifffile")
    propagate, level = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield complaints
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


def _unreadable(path: str, reason: str) -> CellbenchError:
    return CellbenchError(f"the TIFF is damaged or of an unknown kind: {' '.join(reason.split())}", path, SAVE_AGAIN)


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _only_series(tiff: TiffFile, path: str) -> TiffPageSeries:
    """The single image of a file, at full resolution if it is a pyramid."""
    series = tiff.series
    if len(series) > 1:
        sizes = "; ".join(f"{one.axes} {_size(one.shape)}" for one in series[:5])
        raise CellbenchError(f"the file holds {len(series)} images (series): {sizes}", path, SAVE_ONE)
    if not series or 0 in series[0].shape:
        raise CellbenchError("the TIFF holds no pixels", path, SAVE_AGAIN)
    if series[0].keyframe.dtype is None:
        raise CellbenchError("the pixel type is unknown", path, "save it as 8-bit, 16-bit or 32-bit float grey TIFF")
    return series[0]


def _check_alone(tiff: TiffFile, path: str) -> None:
    """Reject one file of a set: OME metadata that name more than one, whether or not they are there."""
    files = set(re.findall(r"""\bFileName\s*=\s*["']([^"']*)""", tiff.ome_metadata or ""))
    if len(files) > 1:
        raise CellbenchError("the image is spread over several files", path, SAVE_ONE)


def _check_complete(series: TiffPageSeries, file_bytes: int, path: str) -> None:
    """Reject, before anything is allocated, more pixels than fit into memory or than the file has."""
    n_pixels = math.prod(series.shape)
    if n_pixels > MAX_PIXELS:
        raise CellbenchError(f"the TIFF declares {n_pixels:,} pixels, more than {MAX_PIXELS:,}", path, SAVE_ONE)
    if series.is_multifile:
        raise CellbenchError("the image is spread over several files", path, SAVE_ONE)
    for level in series.levels:
        if level.dataoffset is not None:
            complete = level.dataoffset + level.nbytes <= file_bytes
        else:
            complete = all(page is not None and _is_within(page, file_bytes) for page in level)
        if not complete:
            raise CellbenchError("the TIFF is cut off: some of its pixels are not in the file", path, SAVE_AGAIN)
    _check_size(series, path)


def _check_size(series: TiffPageSeries, path: str) -> None:
    """Reject an image that would not fit into memory, or that so few bytes cannot hold (a bomb)."""
    pages = [page for page in series if page is not None] if series.dataoffset is None else []
    # Tiles are decoded whole, however little of them lies in the image.
    largest_tile = max((math.prod(page.chunks) * series.dtype.itemsize for page in pages), default=0)
    wanted_bytes = max(series.nbytes, largest_tile)
    if wanted_bytes <= HARMLESS_BYTES:
        return
    stored = {segment for page in pages for segment in zip(page.dataoffsets, page.databytecounts, strict=False)}
    if pages and wanted_bytes > MAX_RATIO * sum(n_bytes for _, n_bytes in stored):
        raise CellbenchError(
            f"the TIFF declares {wanted_bytes:,} bytes of pixels and holds too few to be true", path, SAVE_AGAIN
        )
    if wanted_bytes > (free_bytes := psutil.virtual_memory().available):
        what = f"the image needs {wanted_bytes:,} bytes of memory; this machine has {free_bytes:,} left"
        raise CellbenchError(what, path, SAVE_ONE)


def _check_meaning(series: TiffPageSeries, path: str) -> None:
    """Reject pixels that are not light, and planes that are stored in another way than tifffile assumes."""
    for page in series:
        if page is None or page.is_virtual:
            continue
        whole = page.aspage()
        photometric.check(whole, path)
        if whole.hash != series.keyframe.hash:
            raise CellbenchError("the planes are stored in different ways", path, SAVE_ONE)


def _is_within(page: TiffPage | TiffFrame, file_bytes: int) -> bool:
    """Whether every strip or tile of a page lies in the file; tifffile reads absent ones as zeros."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    return len(segments) >= math.prod(page.chunked) and all(
        offset > 0 and n_bytes > 0 and offset + n_bytes <= file_bytes for offset, n_bytes in segments
    )


def _pick(series: TiffPageSeries, plane: int | None, channel: int | None, path: str) -> tuple[int | slice, ...]:
    """The place of the plane in the array of a series: all of Y and X, one index on every other axis."""
    axes, shape = series.axes, series.shape
    layout = f"{photometric.name(series.keyframe)}, axes {axes}, shape {_size(shape)}"
    picks = {"plane": plane, "channel": channel}
    places = {"plane": [], "channel": []}
    for place, (axis, length) in enumerate(zip(axes, shape, strict=True)):
        if axis not in "YX" and length > 1:
            places["channel" if axis in CHANNEL_AXES else "plane"].append(place)
    # Rows and columns are where any reader sees them, whatever the metadata call them.
    page = series.keyframe
    is_interleaved = page.samplesperpixel > 1 and page.axes.endswith("S")
    kept = "".join(axis for axis, length in zip(axes, shape, strict=True) if axis in "YX" or length > 1)
    if not re.fullmatch(f"[^YX]*YX{'[^YX]' * is_interleaved}", kept) or max(map(len, places.values())) > 1:
        raise CellbenchError(f"the image has other axes than one plane, one channel, Y and X: {layout}", path, SAVE_ONE)

    index: list[int | slice] = [slice(None) if axis in "YX" else 0 for axis in axes]
    lacking = []
    for name, number in picks.items():
        if not places[name]:
            if number is not None:
                raise CellbenchError(f"the image has no {name} to pick from: {layout}", path, f"leave out --{name}")
            continue
        place = places[name][0]
        option = f"--{name} N (0 to {shape[place] - 1})"
        if number is None:
            lacking.append(option)
        elif 0 <= number < shape[place]:
            index[place] = number
        else:
            raise CellbenchError(f"there is no {name} {number}: {layout}", path, f"use {option}")
    if lacking:
        fix = f"add {' '.join(lacking)}, or {SAVE_ONE}"
        raise CellbenchError(f"this is not a single 2-D image: {layout}", path, fix)
    return tuple(index)


def plain(pixels: np.ndarray, path: str) -> np.ndarray:
    """Convert to uint8, uint16 or float32, without loss in cellpose's float32."""
    kind, dtype = pixels.dtype.kind, pixels.dtype
    if dtype in (np.uint8, np.uint16):
        return pixels
    if kind == "b":
        return pixels.astype(np.uint8)
    if kind in "iu" and pixels.min() >= 0 and pixels.max() <= np.iinfo(np.uint16).max:
        return pixels.astype(np.uint16)
    if kind != "f":
        values = "" if kind == "c" else f" with values from {pixels.min()} to {pixels.max()}"
        raise CellbenchError(
            f"pixels of type {dtype}{values} do not fit 8 bits, 16 bits or 32-bit float",
            path,
            "save it as 8-bit, 16-bit or 32-bit float grey TIFF",
        )
    with np.errstate(over="ignore"):  # overflows become infinite then, and are rejected
        pixels = pixels.astype(np.float32, copy=False)
    n_bad = pixels.size - np.count_nonzero(np.isfinite(pixels))
    if n_bad:
        raise CellbenchError(
            f"{n_bad:,} of {pixels.size:,} pixels are not finite (NaN or infinite)",
            path,
            "replace them, for example in Fiji: Process > Noise > Remove NaNs, and save it again",
        )
    return pixels
