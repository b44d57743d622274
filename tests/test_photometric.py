"""Whatever tifffile can write is read as the light that independent readers see, or refused by name.

Independent are libtiff's samples and its RGBA picture (by imagecodecs), OpenCV, and the array that was written.
"""

from __future__ import annotations

import itertools
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC

from harness import images
from harness.errors import CellbenchError

HEIGHT_PX, WIDTH_PX = 16, 24
BITS = {"bool": (1,), "uint8": range(1, 9), "uint16": range(9, 17), "uint32": (17, 20, 24, 31, 32)}
WHOLE = ("uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128")
TYPES = [(name, bits) for name, depths in BITS.items() for bits in depths] + [(name, None) for name in WHOLE]
LAYOUTS = [(None, 1), *itertools.product(("contig", "separate"), (1, 2, 3, 4, 5))]
LOSSY = {COMPRESSION.JPEG, COMPRESSION.JPEG_LOSSY, COMPRESSION.JPEGXR, COMPRESSION.JPEGXR_NDPI, COMPRESSION.JPEGXL,
         COMPRESSION.JPEGXL_DNG}  # fmt: skip
LIBTIFF = {COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.JPEG, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE,
           COMPRESSION.PACKBITS, COMPRESSION.LZMA, COMPRESSION.ZSTD, COMPRESSION.LERC, COMPRESSION.WEBP}  # fmt: skip
GREY_OR_RGB = {"MINISBLACK", "MINISWHITE", "RGB"}


@dataclass(frozen=True)
class Kind:
    """A kind of TIFF file: how a drawn image is stored in it."""

    photometric: PHOTOMETRIC
    dtype: str
    bits: int | None = None
    planarconfig: str | None = None
    n_samples: int = 1
    compression: COMPRESSION = COMPRESSION.NONE
    others: dict[str, Any] = field(default_factory=dict)

    def samples(self) -> np.ndarray:
        """(n_samples, height, width): gentle waves, another in each sample, that use the whole bit depth."""
        dtype = np.dtype(self.dtype)
        y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
        waves = [0.5 + 0.5 * np.sin((x * (k + 1) + y * (3 - k % 3)) / 9) for k in range(self.n_samples)]
        if dtype.kind in "fc":
            return np.stack(waves).astype(dtype)
        # More than 16 bits would be refused for their values; JPEG has 12 at most.
        top = 2 ** min(self.bits or 7, 16) - 1
        if self.dtype == "uint16" and self.compression in LOSSY:
            top = 2**12 - 1
        return np.rint(np.stack(waves) * top).astype(dtype)

    def write(self, path: Path) -> bool:
        """Whether tifffile can write it."""
        pixels = self.samples()
        if self.planarconfig == "contig":
            pixels = np.moveaxis(pixels, 0, -1)
        elif self.planarconfig is None:
            pixels = pixels[0]
        options = {"metadata": None, "photometric": self.photometric, "planarconfig": self.planarconfig, **self.others}
        if self.bits:
            options["bitspersample"] = self.bits
        if self.photometric == PHOTOMETRIC.PALETTE:
            n_colours = 2 ** (8 * min(pixels.itemsize, 2))
            options["colormap"] = np.random.default_rng(0).integers(0, 2**16, (3, n_colours), np.uint16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tifffile.imwrite(path, pixels, compression=self.compression, **options)
            except Exception:  # whatever tifffile and its codecs think of it
                return False
        return True


def stored(path: Path) -> tuple[str, int, int]:
    """Photometric interpretation, bits and samples of what was written: a JPEG is made YCBCR and 12 bits."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        return PHOTOMETRIC(page.photometric).name, page.bitspersample, page.samplesperpixel


def inverted(pixels: np.ndarray, bits: int) -> np.ndarray:
    return ~pixels if pixels.dtype == bool else 2**bits - 1 - pixels.astype(np.int64)


def libtiff(path: Path, is_picture: bool) -> np.ndarray | None:
    """(samples, height, width) as libtiff finds them in the file, or its RGBA picture; None where it cannot."""
    try:
        found = imagecodecs.tiff_decode(path.read_bytes(), asrgb=is_picture)
    except (ValueError, RuntimeError, imagecodecs.TiffError):
        return None
    return np.moveaxis(np.atleast_3d(found), -1, 0) if found.shape[:2] == (HEIGHT_PX, WIDTH_PX) else found


def disagreements(kind: Kind, path: Path, seen: list[np.ndarray]) -> Iterator[str]:
    """In what the loaded samples of a file differ from what others find in it."""
    meaning, bits, n_samples = stored(path)
    pixels = np.stack(seen)
    written = kind.samples()
    tolerance = 0.15 * written.max() if kind.compression in LOSSY else 0
    if kind.photometric != PHOTOMETRIC.YCBCR:  # whose samples are written, and whose colours are read
        light = inverted(written, bits) if meaning == "MINISWHITE" else written
        if np.abs(pixels.astype(float) - light.astype(pixels.dtype)).max() > tolerance:
            yield "the array that was written"
    samples, picture = (libtiff(path, is_picture) for is_picture in (False, True))
    if samples is None or kind.compression not in LIBTIFF:
        return
    is_jpeg = kind.compression == COMPRESSION.JPEG
    # imagecodecs' plain reading of packed bits in PackBits is broken; libtiff's rendering below is not.
    is_broken = kind.compression == COMPRESSION.PACKBITS and bits == 1
    if not is_jpeg and not is_broken:
        light = inverted(samples, bits) if meaning == "MINISWHITE" else samples
        if not np.array_equal(pixels, light.astype(pixels.dtype)):
            yield "libtiff's samples"
    is_shown = picture is not None and bits in (1, 2, 4, 8) and kind.dtype in BITS
    if is_shown and (meaning in ("RGB", "YCBCR") or n_samples == 1):
        n_colours = min(n_samples, 3)
        if not np.array_equal(pixels[:n_colours] * (255 // (2**bits - 1)), picture[:n_colours]):
            yield "libtiff's picture"
    by_opencv = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if bits == 8 and kind.planarconfig is None else None
    if by_opencv is not None and by_opencv.ndim == 2 and not np.array_equal(pixels[0], by_opencv):
        yield "OpenCV"


def must_be_read(kind: Kind, meaning: str, bits: int, n_samples: int) -> bool:
    """Whether a user would be right to complain about a refusal."""
    is_plain = np.dtype(kind.dtype).kind in "buif" and (bits > 1 or n_samples == 1)
    if meaning == "MINISWHITE":
        return n_samples == 1 and kind.dtype in ("bool", "uint8", "uint16")
    has_alpha = meaning == "RGB" and n_samples == 4
    # The codec of JPEG 2000 writes other values than it was given from 26 bits on.
    is_lost = kind.dtype == "uint32" and "2000" in kind.compression.name
    is_aperio = kind.compression == COMPRESSION.APERIO_JP2000_YCBC and n_samples > 1
    return meaning in GREY_OR_RGB and is_plain and not (has_alpha or is_lost or is_aperio)


def faults(kind: Kind, path: Path) -> Iterator[str]:
    """What is wrong with how a file of a kind is loaded."""
    meaning, bits, n_samples = stored(path)
    seen, errors = [], []
    for channel in range(n_samples) if n_samples > 1 else (None,):
        try:
            seen.append(images.load(str(path), channel=channel).pixels)
        except CellbenchError as error:
            errors.append(error)
    if seen and errors:
        yield "some samples are read and others refused"
    elif seen:
        yield from (f"differs from {reader}" for reader in disagreements(kind, path, seen))
        if meaning not in GREY_OR_RGB and not (meaning == "YCBCR" and kind.compression == COMPRESSION.JPEG):
            yield "is read as light"
    else:
        if must_be_read(kind, meaning, bits, n_samples):
            yield f"is refused: {errors[0].what}"
        if meaning not in GREY_OR_RGB and meaning not in errors[0].what:
            yield f"its photometric interpretation is not named: {errors[0].what}"
        if errors[0].where != str(path) or not errors[0].fix:
            yield "where or fix is missing"


def verify(kinds: list[Kind], path: Path, n_least: int) -> None:
    found, n_written = [], 0
    for kind in kinds:
        if kind.write(path):
            n_written += 1
            found += [f"{kind}: {fault}" for fault in faults(kind, path)]
    assert not found, "\n".join(found)
    assert n_written >= n_least


@pytest.fixture
def tif(tmp_path: Path) -> Path:
    return tmp_path / "cells.tif"


@pytest.mark.parametrize("photometric", PHOTOMETRIC, ids=lambda each: each.name)
def test_every_photometric_type_depth_and_layout(photometric: PHOTOMETRIC, tif: Path) -> None:
    kinds = [Kind(photometric, *of, *layout) for of, layout in itertools.product(TYPES, LAYOUTS)]
    kinds += [Kind(photometric, "uint8", 8, *layout, COMPRESSION.JPEG) for layout in LAYOUTS]
    verify(kinds, tif, n_least=30)


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("photometric", PHOTOMETRIC, ids=lambda each: each.name)
def test_every_compression(photometric: PHOTOMETRIC, tif: Path) -> None:
    kinds = [
        Kind(photometric, *of, *layout, compression)
        for of, layout, compression in itertools.product(TYPES, LAYOUTS, COMPRESSION)
        if of[1] in (None, 1, 8, 16, 32)
    ]
    verify(kinds, tif, n_least=100)


STORAGE = {
    "byteorder": ("<", ">"),
    "bigtiff": (False, True),
    "place": ({}, {"rowsperstrip": 5}, {"tile": (16, 16)}),
    "packed": ((COMPRESSION.NONE, False), (COMPRESSION.ADOBE_DEFLATE, True), (COMPRESSION.LZW, True),
               (COMPRESSION.PACKBITS, False)),
}  # fmt: skip


@pytest.mark.parametrize("photometric", [PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB])
def test_how_the_same_pixels_are_laid_out_in_the_file(photometric: PHOTOMETRIC, tif: Path) -> None:
    layouts = LAYOUTS[:1] if photometric != PHOTOMETRIC.RGB else [("contig", 3), ("separate", 3)]
    kinds = [
        Kind(photometric, *of, *layout, compression,
             others={"byteorder": order, "bigtiff": is_big, "predictor": is_predicted, **place})
        for of, layout, (order, is_big, place, (compression, is_predicted)) in itertools.product(
            (("uint8", 8), ("uint16", 16), ("float32", None)), layouts, itertools.product(*STORAGE.values())
        )
    ]  # fmt: skip
    verify(kinds, tif, n_least=90)


@pytest.mark.parametrize("kind", [Kind(PHOTOMETRIC.MINISWHITE, "bool", 1), Kind(PHOTOMETRIC.MINISBLACK, "uint8", 4)])
def test_bits_that_are_stored_from_the_lowest(kind: Kind, tif: Path) -> None:
    fill_order, lowest_first = 266, 2
    placeholder = Kind(
        kind.photometric, kind.dtype, kind.bits, others={"extratags": [(65_000, 3, 1, lowest_first, True)]}
    )
    assert placeholder.write(tif)  # which tifffile does from the highest, and without that tag
    with tifffile.TiffFile(tif) as file:
        start, n_bytes = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        tag = file.pages[0].tags[65_000].offset
    content = bytearray(tif.read_bytes())
    content[start : start + n_bytes] = imagecodecs.bitorder_encode(bytes(content[start : start + n_bytes]))
    struct.pack_into("<H", content, tag, fill_order)
    tif.write_bytes(content)
    assert list(faults(kind, tif)) == []


# ------------------------------------------------------------------ tags that change what pixels are


def rewrite(tif: Path, page: int, tag: str, value: int | tuple[int, ...] | None) -> None:
    """Overwrite the values of a page's tag in place, or with None its number, so that it is another tag."""
    with tifffile.TiffFile(tif) as file:
        found = file.pages[page].aspage().tags[tag]
        order = file.byteorder
    content = bytearray(tif.read_bytes())
    if value is None:
        struct.pack_into(f"{order}H", content, found.offset, 65_000)
    else:
        values = value if isinstance(value, tuple) else (value,)
        struct.pack_into(f"{order}{len(values)}{'I' if found.dtype == 4 else 'H'}", content, found.valueoffset, *values)
    tif.write_bytes(content)


def refusal(tif: Path, **picks: int) -> str:
    with pytest.raises(CellbenchError) as caught:
        images.load(str(tif), **picks)
    assert caught.value.where == str(tif)
    assert caught.value.fix
    return caught.value.what


GREY = Kind(PHOTOMETRIC.MINISBLACK, "uint8", 8)
COLOUR = Kind(PHOTOMETRIC.RGB, "uint8", 8, "contig", 3)


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("kind", [GREY, COLOUR], ids=["grey", "rgb"])
def test_a_mirrored_or_rotated_image_is_refused(kind: Kind, orientation: int, tif: Path) -> None:
    assert replace(kind, others={"extratags": [(274, 3, 1, orientation, True)]}).write(tif)
    if orientation == 1:
        assert list(faults(kind, tif)) == []
    else:
        assert f"orientation {orientation}" in refusal(tif)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("extrasample", ["unspecified", "assocalpha", "unassalpha"])
@pytest.mark.parametrize(("photometric", "n_samples"), [(PHOTOMETRIC.MINISBLACK, 2), (PHOTOMETRIC.RGB, 4)])
def test_transparency_is_refused(
    photometric: PHOTOMETRIC, n_samples: int, extrasample: str, planarconfig: str, tif: Path
) -> None:
    kind = Kind(photometric, "uint8", 8, planarconfig, n_samples, others={"extrasamples": [extrasample]})
    assert kind.write(tif)
    if extrasample == "unspecified":
        assert list(disagreements(kind, tif, [images.load(str(tif), channel=i).pixels for i in range(n_samples)])) == []
    else:
        assert f"{photometric.name}, with transparency" in refusal(tif, channel=0)


@pytest.mark.parametrize(
    ("kind", "tag", "value", "reason"),
    [
        (GREY, "PhotometricInterpretation", None, "no photometric interpretation"),
        (GREY, "PhotometricInterpretation", 1234, "unknown photometric interpretation 1234"),
        (GREY, "PhotometricInterpretation", PHOTOMETRIC.ICCLAB, "ICCLAB, neither grey levels nor RGB"),
        (COLOUR, "BitsPerSample", (5, 6, 5), "RGB, of the bit depths (5, 6, 5)"),
        (Kind(PHOTOMETRIC.MINISWHITE, "float32"), "Compression", 1, "MINISWHITE, without a value for black"),
        (Kind(PHOTOMETRIC.MINISWHITE, "int16"), "Compression", 1, "MINISWHITE, without a value for black"),
    ],
)
def test_pixels_without_a_meaning_are_refused(
    kind: Kind, tag: str, value: int | tuple[int, ...] | None, reason: str, tif: Path
) -> None:
    assert kind.write(tif)
    rewrite(tif, 0, tag, value)
    assert reason in refusal(tif)


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        ("PhotometricInterpretation", PHOTOMETRIC.MINISWHITE, "stored in different ways"),
        ("PhotometricInterpretation", PHOTOMETRIC.PALETTE, "PALETTE"),
        ("Compression", COMPRESSION.PACKBITS, "stored in different ways"),
        ("ImageLength", HEIGHT_PX - 1, "stored in different ways"),
        ("ImageWidth", WIDTH_PX - 1, ""),  # which tifffile itself may notice
        ("BitsPerSample", 16, "stored in different ways"),
    ],
)
@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {}], ids=["imagej", "ome", "tifffile"])
def test_a_plane_that_is_stored_in_another_way_than_the_first_is_noticed(
    options: dict[str, Any], tag: str, value: int, reason: str, tif: Path
) -> None:
    stack = Kind(PHOTOMETRIC.MINISBLACK, "uint8", 8, n_samples=3).samples()
    tifffile.imwrite(tif, stack, photometric="minisblack", metadata={"axes": "ZYX"}, contiguous=False, **options)
    np.testing.assert_array_equal(images.load(str(tif), plane=2).pixels, stack[2])
    rewrite(tif, 1, tag, value)
    assert reason in refusal(tif, plane=2)


# ------------------------------------------------------------------ axes

LENGTHS = {"Z": 3, "T": 4, "C": 2, "S": 3, "Y": HEIGHT_PX, "X": WIDTH_PX}
AXES = ["YX", "ZYX", "TYX", "CYX", "YXS", "CZYX", "TZYX", "ZCYX", "ZYXS", "TZCYX"]
ORDERS = sorted({"".join(order) for axes in AXES for order in itertools.permutations(axes)})


def write_axes(path: Path, axes: str, options: dict[str, Any]) -> np.ndarray | None:
    """A file with these axes, in which each place has another value, or None where tifffile cannot write it."""
    shape = [LENGTHS[axis] for axis in axes]
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    colour = {"photometric": "rgb", "planarconfig": "contig"} if axes.endswith("S") else {"photometric": "minisblack"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tifffile.imwrite(path, pixels, metadata={"axes": axes}, **colour, **options)
        except Exception:
            return None
    return pixels


@pytest.mark.parametrize("container", ["shaped", "ome", "imagej"])
def test_every_order_of_axes(container: str, tif: Path) -> None:
    n_read = 0
    for axes in ORDERS:
        pixels = write_axes(tif, axes, {} if container == "shaped" else {container: True})
        if pixels is None:
            continue
        picks = {"plane": 1} if set("ZT") & set(axes) else {}
        picks |= {"channel": 1} if set("CS") & set(axes) else {}
        index = tuple(slice(None) if axis in "YX" else 1 for axis in axes)
        expected = pixels[index] if axes.index("Y") < axes.index("X") else pixels[index].T
        try:
            found = images.load(str(tif), **picks).pixels
        except CellbenchError as error:
            # One number cannot name both a Z and a T, and rows and columns must be what they are in each page.
            assert {"Z", "T"} <= set(axes) or not axes.removesuffix("S").endswith("YX"), (axes, error)
            continue
        n_read += 1
        np.testing.assert_array_equal(found, expected, err_msg=axes)
    assert n_read >= 4


@pytest.mark.parametrize("options", [{"metadata": None}, {"ome": True}, {"imagej": True}, {}], ids=str)
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_each_plane_is_the_page_that_libtiff_counts(photometric: str, options: dict[str, Any], tif: Path) -> None:
    stack = Kind(PHOTOMETRIC.MINISBLACK, "uint8", 8, n_samples=4).samples()
    described = {} if "metadata" in options else {"metadata": {"axes": "ZYX"}}
    tifffile.imwrite(tif, stack, photometric=photometric, **options, **described)
    for plane in range(4):
        page = imagecodecs.tiff_decode(tif.read_bytes(), index=plane)
        seen = images.load(str(tif), plane=plane).pixels
        np.testing.assert_array_equal(seen, page if photometric == "minisblack" else 255 - page)


@pytest.mark.parametrize("kind", [GREY, COLOUR], ids=["grey", "rgb"])
def test_a_volume_in_one_page(kind: Kind, tif: Path) -> None:
    volume = np.stack([kind.samples() // (k + 1) for k in range(3)], axis=1)  # samples, depth, height, width
    pixels = volume[0] if kind is GREY else np.moveaxis(volume, 0, -1)
    tifffile.imwrite(tif, pixels, photometric=kind.photometric, volumetric=True)
    picks = {} if kind is GREY else {"channel": kind.n_samples - 1}
    np.testing.assert_array_equal(images.load(str(tif), plane=2, **picks).pixels, volume[-1, 2])
