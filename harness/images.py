"""The image to segment: a TIFF file or a built-in synthetic sample, and centred crops of it.

What tifffile would guess, log or fill with zeros is an error here: a benchmark has to know its input.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.errors import CellbenchError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

Crop = int | Literal["full"]

# 2**31 px are 8 GiB as float32, and cellpose needs many times that: no machine could segment more.
MAX_PIXELS = 2**31

TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, little- and big-endian
CHANNEL_AXES = "CS"  # tifffile's channels and samples (RGB)

SAVE_ONE = "save the plane to be measured as a TIFF file of its own"
SAVE_AGAIN = "copy it again from where it came from, or open it in Fiji and save it as TIFF"


@dataclass(frozen=True, eq=False)
class Image:
    """A grey image and where it came from.

    name: "sparse", "dense" or the file's name. source: the same name or the absolute path, for load().
    pixels: (height, width), uint8, uint16 or float32. sha256: of the pixels alone, C order, little-endian.
    """

    name: str
    source: str
    pixels: np.ndarray
    sha256: str
    is_synthetic: bool


def load(source: str, plane: int | None = None, channel: int | None = None) -> Image:
    """Draw a built-in image or read one 2-D plane of a TIFF file.

    plane and channel (0-based) pick from a file that has such an axis, and only then.
    Raises CellbenchError for whatever is not exactly one finite, grey, complete image.
    """
    from harness import synthetic  # brings scipy, which --help must not wait for

    if source in synthetic.BUILT_IN:
        if plane is not None or channel is not None:
            raise CellbenchError(
                "a built-in image is one plane: there is nothing to pick", source, "leave out --plane and --channel"
            )
        pixels = synthetic.BUILT_IN[source]().image
        return Image(source, source, pixels, hash_pixels(pixels), is_synthetic=True)
    path = os.path.abspath(os.path.expanduser(source))
    _check_file(path, tuple(synthetic.BUILT_IN))
    pixels = _plain(_read_tiff(path, plane, channel), path)
    return Image(os.path.basename(path), path, pixels, hash_pixels(pixels), is_synthetic=False)


def crop(pixels: np.ndarray, side: Crop) -> np.ndarray:
    """Copy the centred square of side px, or the whole image for "full"; C-contiguous.

    Raises ValueError if it does not fit, which check_crops should have told the user before.
    """
    if side == "full":
        return pixels.copy()
    height_px, width_px = pixels.shape
    if not _fits(pixels, side):
        raise ValueError(f"a crop of {side} px does not fit into {width_px} × {height_px} px")
    top, left = (height_px - side) // 2, (width_px - side) // 2
    return pixels[top : top + side, left : left + side].copy()


def check_crops(image: Image, crops: Sequence[Crop]) -> None:
    """Refuse crops that the image cannot give, all of them in one error."""
    impossible = [str(side) for side in crops if not _fits(image.pixels, side)]
    if impossible:
        height_px, width_px = image.pixels.shape
        raise CellbenchError(
            f"crops that do not fit into the image of {width_px} × {height_px} px: {', '.join(impossible)}",
            image.source,
            f'use crops of 1 to {min(height_px, width_px)} px, or "full"',
        )


def hash_pixels(pixels: np.ndarray) -> str:
    """The sha256 of an image's pixels and nothing else: C order, little-endian."""
    little_endian = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return hashlib.sha256(little_endian).hexdigest()


def _fits(pixels: np.ndarray, side: Crop) -> bool:
    return side == "full" or 0 < side <= min(pixels.shape)


def _check_file(path: str, built_in: tuple[str, ...]) -> None:
    """Refuse what is no readable regular file (a pipe would block for ever) or does not start like a TIFF."""
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
    if not start:
        raise CellbenchError("the image file is empty", path, SAVE_AGAIN)
    if start not in TIFF_MAGICS:
        raise CellbenchError("the file is not a TIFF", path, "open it in Fiji and save it as TIFF")


def _read_tiff(path: str, plane: int | None, channel: int | None) -> np.ndarray:
    """Read one plane as it is stored; (height, width), any type."""
    from tifffile import TiffFile

    with _complaints() as complaints:
        try:
            with TiffFile(path) as tiff:
                series = _only_series(tiff, path)
                _check_complete(series, tiff.filehandle.size, path)
                if complaints:
                    raise _unreadable(path, complaints[0])
                index = _pick(series.axes, series.shape, plane, channel, path)
                pixels = series.asarray()
        except CellbenchError:
            raise
        except Exception as error:  # tifffile and its codecs raise nearly anything over a damaged file
            raise _unreadable(path, str(error) or type(error).__name__) from error
    if pixels.shape != series.shape:
        raise _unreadable(path, f"it declares {_size(series.shape)} pixels and holds {_size(pixels.shape)}")
    return np.ascontiguousarray(pixels[index])


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Keep tifffile's warnings off the terminal and collect the errors that it only logs."""
    complaints: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: complaints.append(record.getMessage())
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


def _check_complete(series: TiffPageSeries, file_bytes: int, path: str) -> None:
    """Refuse, before anything is allocated, more pixels than can be held or than the file has."""
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


def _is_within(page: TiffPage | TiffFrame, file_bytes: int) -> bool:
    """Whether every strip or tile of a page lies in the file; tifffile reads absent ones as zeros."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    return len(segments) >= math.prod(page.chunked) and all(
        offset > 0 and n_bytes > 0 and offset + n_bytes <= file_bytes for offset, n_bytes in segments
    )


def _pick(
    axes: str, shape: Sequence[int], plane: int | None, channel: int | None, path: str
) -> tuple[int | slice, ...]:
    """Where in an array with these axes the one plane lies: all of Y and X, one place on every other axis."""
    layout = f"axes {axes}, shape {_size(shape)}"
    picks = {"plane": plane, "channel": channel}
    places = {"plane": [], "channel": []}
    for place, (axis, length) in enumerate(zip(axes, shape, strict=True)):
        if axis not in "YX" and length > 1:
            places["channel" if axis in CHANNEL_AXES else "plane"].append(place)
    if axes.count("Y") != 1 or axes.count("X") != 1 or max(map(len, places.values())) > 1:
        raise CellbenchError(f"the image has other axes than Y, X, one plane and one channel: {layout}", path, SAVE_ONE)

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


def _plain(pixels: np.ndarray, path: str) -> np.ndarray:
    """Convert to uint8, uint16 or float32 without loss as far as cellpose, which computes in float32, can tell."""
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
    with np.errstate(over="ignore"):  # what overflows is infinite then, and refused as such
        pixels = pixels.astype(np.float32, copy=False)
    n_bad = pixels.size - np.count_nonzero(np.isfinite(pixels))
    if n_bad:
        raise CellbenchError(
            f"{n_bad:,} of {pixels.size:,} pixels are not finite (NaN or infinite)",
            path,
            "replace them, for example in Fiji: Process > Noise > Remove NaNs, and save it again",
        )
    return pixels
