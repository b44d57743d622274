"""The image to segment: a TIFF file or a built-in synthetic sample, and centred crops of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.errors import CellbenchError
from harness.images import tiff

Crop = int | Literal["full"]
# Cellpose 3.1 takes fewer than 8 rows for channels and returns masks of another shape; of 1 × 1 px it raises.
MIN_SIDE_PX = 8


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
    from harness.images import synthetic  # imports scipy, which --help must not wait for

    if source in synthetic.BUILT_IN:
        if plane is not None or channel is not None:
            raise CellbenchError(
                "a built-in image is one plane: there is nothing to pick", source, "leave out --plane and --channel"
            )
        pixels = synthetic.BUILT_IN[source]().image
        return Image(source, source, pixels, hash_pixels(pixels), is_synthetic=True)
    path = os.path.abspath(os.path.expanduser(source))
    tiff.check_file(path, tuple(synthetic.BUILT_IN))
    pixels = tiff.plain(tiff.read(path, plane, channel), path)
    return Image(_printable(os.path.basename(path)), path, pixels, hash_pixels(pixels), is_synthetic=False)


def crop(pixels: np.ndarray, side: Crop) -> np.ndarray:
    """Copy the centred square of side px, or the whole image for "full"; C-contiguous.

    Raises ValueError if it does not fit; check_crops reports that to the user before.
    """
    if side == "full":
        return pixels.copy()
    height_px, width_px = pixels.shape
    if not 0 < side <= min(pixels.shape):
        raise ValueError(f"a crop of {side} px does not fit into {width_px} × {height_px} px")
    top, left = (height_px - side) // 2, (width_px - side) // 2
    return pixels[top : top + side, left : left + side].copy()


def check_crops(image: Image, crops: Sequence[Crop]) -> None:
    """Reject crops that the image cannot give or that cannot be segmented, all of them in one error."""
    height_px, width_px = image.pixels.shape
    most_px = min(height_px, width_px)
    if most_px < MIN_SIDE_PX:
        what = f"the image has {width_px} × {height_px} px; cellpose needs {MIN_SIDE_PX} px each way"
        raise CellbenchError(what, image.source, "choose a larger image")
    impossible = [str(side) for side in crops if side != "full" and not MIN_SIDE_PX <= side <= most_px]
    if impossible:
        raise CellbenchError(
            f"crops that cellpose cannot segment or that the image of {width_px} × {height_px} px does not hold: "
            f"{', '.join(impossible)}",
            image.source,
            f"use crops of {MIN_SIDE_PX} to {most_px} px",
        )


def hash_pixels(pixels: np.ndarray) -> str:
    """The sha256 of an image's pixels and nothing else: C order, little-endian."""
    little_endian = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return hashlib.sha256(little_endian.data).hexdigest()


def _printable(name: str) -> str:
    """A file name as text that can be stored: bytes that are not UTF-8 become question marks in a box."""
    return os.fsencode(name).decode("utf-8", "replace")
