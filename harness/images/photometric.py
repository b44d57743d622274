"""The meaning of a TIFF page's samples: amounts of light, or the reason why not.

tifffile gives samples as they are stored, so a negative, indices into a palette and amounts of ink look like grey
levels. Here a negative is inverted, and other samples than light are an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import CellbenchError

if TYPE_CHECKING:
    from tifffile import TiffPage

LIGHT = ("MINISBLACK", "MINISWHITE", "RGB")
ALPHA = {1, 2}  # of the tag ExtraSamples: associated and unassociated
JPEG = 7  # the compression of which tifffile makes RGB, as every reader does, where a pixel's samples lie together
APERIO_YCBCR = 33003  # a compression that holds YCBCR whatever the photometric interpretation is
NORMAL = 1  # of the tag Orientation: rows from the top, columns from the left

SAVE_GREY = "open it in Fiji, make it grey (Image > Type > 8-bit or 16-bit) and save it as TIFF"


def name(page: TiffPage) -> str:
    """The page's photometric interpretation in tifffile's words, or as far as it is known."""
    from tifffile import PHOTOMETRIC

    if "PhotometricInterpretation" not in page.tags:
        return "of no photometric interpretation"
    try:
        return PHOTOMETRIC(page.photometric).name
    except ValueError:
        return f"of the unknown photometric interpretation {page.photometric}"


def check(page: TiffPage, path: str) -> None:
    """Reject samples that are not amounts of light; the error names their photometric interpretation."""
    meaning, bits, n_samples = name(page), page.bitspersample, page.samplesperpixel
    is_unsigned = page.dtype is not None and page.dtype.kind in "bu"
    is_decoded = meaning == "YCBCR" and page.compression == JPEG and page.planarconfig == 1 and n_samples == 3
    orientation = page.tags.valueof("Orientation", NORMAL)
    faults = {
        "neither grey levels nor RGB": meaning not in LIGHT and not is_decoded,
        "compressed as Aperio's YCBCR": page.compression == APERIO_YCBCR and n_samples > 1,
        "with transparency": not ALPHA.isdisjoint(page.extrasamples),
        f"of the bit depths {bits}": isinstance(bits, tuple),
        # Some writers pack them in another way than others read them.
        f"of {n_samples} samples of 1 bit": bits == 1 and n_samples > 1,
        "without a value for black": meaning == "MINISWHITE" and (n_samples > 1 or not is_unsigned),
        f"mirrored or rotated (orientation {orientation})": orientation != NORMAL,
    }
    if found := [fault for fault, is_there in faults.items() if is_there]:
        raise CellbenchError(f"the pixels are {meaning}, {found[0]}", path, SAVE_GREY)


def light(pixels: np.ndarray, page: TiffPage) -> np.ndarray:
    """Pixels whose larger values are brighter; MINISWHITE is subtracted from the largest value of its bit depth."""
    bits = page.bitspersample
    if name(page) != "MINISWHITE" or not isinstance(bits, int):  # check() has rejected several bit depths
        return pixels
    return pixels ^ pixels.dtype.type(2**bits - 1)
