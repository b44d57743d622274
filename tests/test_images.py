"""Images: every common kind of TIFF is read exactly, everything else is refused with a way out."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from harness import images
from harness.engines.cellpose3 import weights
from harness.errors import CellbenchError
from harness.images import synthetic

ARTICLE_IMAGE = Path(__file__).parents[2] / "shared" / "seed-data" / "cell_00505.tif"
ARTICLE_SHA256 = "866c7efc3f4901a3f0f82ae8367bcf581425a7871978aad8439cb00f1e781c4a"

GREY = np.random.default_rng(0).integers(0, 255, (90, 70), dtype=np.uint8)
STACK = np.stack([GREY, GREY // 2, GREY // 3])


@pytest.fixture
def tif(tmp_path: Path) -> Path:
    return tmp_path / "cells.tif"


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tifffile's about what some tests write on purpose
        tifffile.imwrite(path, pixels, **options)


def save_pyramid(path: Path, ome: bool) -> None:
    with tifffile.TiffWriter(path, ome=ome) as writer:
        writer.write(GREY, subifds=1)
        writer.write(GREY[::2, ::2], subfiletype=1)


def refusal(path: Path, **picks: int) -> CellbenchError:
    """The error of loading a file; it names the file and a way out, and leaves the folder as it was."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(CellbenchError) as caught:
        images.load(str(path), **picks)
    assert caught.value.where == str(path)
    assert caught.value.fix
    assert "\n" not in caught.value.what
    assert sorted(path.parent.iterdir()) == before
    return caught.value


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"tile": (32, 32)},
        {"tile": (32, 32), "compression": "zstd"},
        {"bigtiff": True, "byteorder": ">"},
        {"ome": True},
        {"imagej": True},
        {"rowsperstrip": 7, "metadata": None},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_common_files_are_read_exactly(dtype: str, options: dict, tif: Path) -> None:
    pixels = GREY.astype(dtype) * (257 if dtype == "uint16" else 1)
    save(tif, pixels, **options)
    image = images.load(str(tif))
    np.testing.assert_array_equal(image.pixels, pixels, strict=True)
    assert image.sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert (image.name, image.source, image.is_synthetic) == ("cells.tif", str(tif), False)


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [
        ("bool", "uint8"),
        ("int16", "uint16"),
        ("uint32", "uint16"),
        ("int32", "uint16"),
        ("int64", "uint16"),
        ("float16", "float32"),
        ("float64", "float32"),
    ],
)
def test_other_types_are_converted_where_nothing_is_lost(stored: str, loaded: str, tif: Path) -> None:
    pixels = GREY.astype(stored)
    save(tif, pixels, photometric="minisblack")  # tifffile's own choice for bool is MINISWHITE
    np.testing.assert_array_equal(images.load(str(tif)).pixels, pixels.astype(loaded), strict=True)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (GREY.astype(np.int16) - 9, "int16 with values from -9"),
        (GREY.astype(np.uint32) + 70_000, "uint32 with values from 70000"),
        (GREY.astype(np.complex64), "complex64"),
    ],
    ids=["negative", "large", "complex"],
)
def test_types_that_would_lose_something_are_refused(pixels: np.ndarray, reason: str, tif: Path) -> None:
    save(tif, pixels)
    error = refusal(tif)
    assert reason in error.what
    assert "16-bit" in error.fix


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_pixels_that_are_not_finite_are_counted(bad: float, tif: Path) -> None:
    pixels = GREY.astype(np.float64)
    pixels[0, :3] = bad
    save(tif, pixels)
    assert "3 of 6,300 pixels are not finite" in refusal(tif).what


def test_an_image_without_any_contrast_is_an_image(tif: Path) -> None:
    save(tif, np.zeros((40, 50), np.uint8))
    assert images.load(str(tif)).pixels.shape == (40, 50)


def test_axes_of_length_one_do_not_count(tif: Path) -> None:
    save(tif, GREY[None, :, :, None])
    np.testing.assert_array_equal(images.load(str(tif)).pixels, GREY)


def test_a_relative_path_becomes_absolute(tif: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tif, GREY)
    monkeypatch.chdir(tif.parent)
    assert images.load("cells.tif").source == str(tif)
    monkeypatch.setenv("HOME", str(tif.parent))
    assert images.load("~/cells.tif").source == str(tif)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "metadata": {"axes": "ZYX"}, "truncate": True},
    ],
    ids=["tifffile", "pages", "imagej", "imagej in one page"],
)
def test_a_plane_is_picked_from_a_stack(options: dict, tif: Path) -> None:
    save(tif, STACK, photometric="minisblack", **options)
    error = refusal(tif)
    assert "YX, shape 3 × 90 × 70" in error.what
    assert "--plane N (0 to 2)" in error.fix
    image = images.load(str(tif), plane=1)
    np.testing.assert_array_equal(image.pixels, STACK[1], strict=True)
    assert image.pixels.flags.c_contiguous
    assert "there is no plane 3" in refusal(tif, plane=3).what
    assert "0 to 2" in refusal(tif, plane=-1).fix
    assert "no channel to pick" in refusal(tif, plane=1, channel=0).what


@pytest.mark.parametrize("planar", [False, True])
def test_a_channel_is_picked_from_rgb(planar: bool, tif: Path) -> None:
    pixels = STACK if planar else np.moveaxis(STACK, 0, -1)
    save(tif, pixels, photometric="rgb", planarconfig="separate" if planar else "contig")
    assert "--channel N (0 to 2)" in refusal(tif).fix
    image = images.load(str(tif), channel=2)
    np.testing.assert_array_equal(image.pixels, STACK[2], strict=True)
    assert image.pixels.flags.c_contiguous


def test_plane_and_channel_are_picked_from_an_ome_tiff(tif: Path) -> None:
    stacks = np.stack([STACK, 255 - STACK])
    save(tif, stacks, ome=True, metadata={"axes": "CTYX"}, compression="zlib")
    error = refusal(tif)
    assert "axes CTYX" in error.what
    assert "--plane N (0 to 2) --channel N (0 to 1)" in error.fix
    np.testing.assert_array_equal(images.load(str(tif), plane=2, channel=1).pixels, stacks[1, 2])
    assert "--channel N" in refusal(tif, plane=2).fix


def test_two_stacked_axes_are_more_than_one_plane_number_can_say(tif: Path) -> None:
    save(tif, np.stack([STACK, STACK]), ome=True, metadata={"axes": "TZYX"})
    assert "axes TZYX" in refusal(tif, plane=0).what


def test_a_plane_of_a_plain_image_cannot_be_picked(tif: Path) -> None:
    save(tif, GREY)
    assert "--plane" in refusal(tif, plane=0).fix
    assert "--channel" in refusal(tif, channel=0).fix


@pytest.mark.parametrize("ome", [False, True])
def test_several_images_in_one_file_are_refused(ome: bool, tif: Path) -> None:
    with tifffile.TiffWriter(tif, ome=ome) as writer:
        writer.write(GREY)
        writer.write(GREY[:50])
    assert "2 images (series): YX 90 × 70; YX 50 × 70" in refusal(tif).what


@pytest.mark.parametrize("ome", [False, True])
def test_a_pyramid_gives_its_full_resolution(ome: bool, tif: Path) -> None:
    save_pyramid(tif, ome)
    np.testing.assert_array_equal(images.load(str(tif)).pixels, GREY)


def test_an_ome_tiff_whose_other_half_is_elsewhere_is_refused(tif: Path) -> None:
    for name, uuid in (("cells.tif", "aa"), ("other.tif", "bb")):
        data = "".join(
            f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{file}">urn:uuid:{one}</UUID></TiffData>'
            for z, (file, one) in enumerate((("cells.tif", "aa"), ("other.tif", "bb")))
        )
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{uuid}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            f'Type="uint8" SizeX="70" SizeY="90" SizeZ="2" SizeC="1" SizeT="1">{data}</Pixels></Image></OME>'
        )
        save(tif.with_name(name), GREY, metadata=None, description=xml)
    assert "several files" in refusal(tif, plane=0).what
    tif.with_name("other.tif").unlink()
    assert "several files" in refusal(tif, plane=0).what


def test_a_missing_file_suggests_the_built_in_images(tmp_path: Path) -> None:
    error = refusal(tmp_path / "spares")
    assert "no such image" in error.what
    assert "sparse, dense" in error.fix


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "not a TIFF"),
        (b"a few words", "not a TIFF"),
        (b"<!DOCTYPE html><html></html>", "not a TIFF"),
        (b"II", "not a TIFF"),
        (b"II*\0", "damaged"),
        (b"II*\0\x08\0\0\0", "no pixels"),
        (b"MM\0*" + b"\xff" * 100, "no pixels"),
    ],
)
def test_files_that_are_no_image(content: bytes, reason: str, tif: Path) -> None:
    tif.write_bytes(content)
    assert reason in refusal(tif).what


def test_what_is_not_a_file(tmp_path: Path) -> None:
    assert "directory" in refusal(tmp_path).what
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe").what


def test_a_file_that_may_not_be_read(tif: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    save(tif, GREY)
    if os.geteuid() == 0:  # who may read everything
        monkeypatch.setattr("builtins.open", closed)
    tif.chmod(0)
    assert "Permission denied" in refusal(tif).what


@pytest.mark.parametrize("kept", [0.01, 0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: save(path, GREY),
        lambda path: save(path, GREY, compression="zlib", rowsperstrip=8),
        lambda path: save(path, GREY, compression="lzw", tile=(16, 16), bigtiff=True),
        lambda path: save(path, STACK, photometric="minisblack", metadata=None, rowsperstrip=16),
        lambda path: save(path, STACK, photometric="minisblack", ome=True, compression="zlib"),
        lambda path: save(path, GREY.astype(np.float32), imagej=True),
        lambda path: save_pyramid(path, ome=False),
    ],
    ids=["plain", "strips", "tiles", "pages", "ome", "imagej", "pyramid"],
)
def test_a_truncated_file_is_an_error_and_not_an_image_with_black_parts(
    write: Callable[[Path], None], kept: float, tif: Path
) -> None:
    write(tif)
    content = tif.read_bytes()
    tif.write_bytes(content[: int(len(content) * kept)])
    error = refusal(tif)
    assert any(word in error.what for word in ("cut off", "damaged", "no pixels"))
    assert "copy it again" in error.fix


def test_a_truncated_file_is_known_before_anything_is_decoded(tif: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tif, GREY, compression="zlib", rowsperstrip=8)
    tif.write_bytes(tif.read_bytes()[:-50])
    monkeypatch.delattr(tifffile.TiffPageSeries, "asarray")
    assert "cut off" in refusal(tif).what


def test_a_damaged_strip_is_an_error(tif: Path) -> None:
    save(tif, GREY, compression="zlib")
    with tifffile.TiffFile(tif) as file:
        start = file.pages[0].dataoffsets[0]
    content = bytearray(tif.read_bytes())
    content[start : start + 200] = b"\xff" * 200
    tif.write_bytes(content)
    assert "damaged" in refusal(tif).what


def redeclare(tif: Path, **values: int) -> None:
    """Overwrite tags of the first page in place; of a list, its first value."""
    with tifffile.TiffFile(tif) as file:
        places = [(file.pages[0].tags[name], value) for name, value in values.items()]
        content = bytearray(tif.read_bytes())
        for tag, value in places:
            struct.pack_into("<I" if tag.dtype == 4 else "<H", content, tag.valueoffset, value)
    tif.write_bytes(content)


def test_a_strip_that_was_never_written_is_an_error_and_not_black(tif: Path) -> None:
    save(tif, GREY, metadata=None, compression="zlib", rowsperstrip=30)
    redeclare(tif, StripByteCounts=0)
    assert "cut off" in refusal(tif).what


@pytest.mark.parametrize(
    ("compression", "side_px", "reason"),
    [
        (None, 60_000, "3,600,000,000 pixels, more than"),
        (None, 40_000, "cut off"),
        ("zlib", 60_000, "3,600,000,000 pixels, more than"),
        ("zlib", 40_000, "cut off"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_decoded(
    compression: str | None, side_px: int, reason: str, tif: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tif, GREY, metadata=None, compression=compression)
    redeclare(tif, ImageWidth=side_px, ImageLength=side_px)
    monkeypatch.delattr(tifffile.TiffPageSeries, "asarray")
    assert reason in refusal(tif).what


@pytest.mark.parametrize("tag", ["ImageWidth", "TileWidth"])
def test_a_small_file_that_declares_a_large_image_or_tile_is_a_bomb(
    tag: str, tif: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = (80, 80) if tag == "TileWidth" else None
    save(tif, GREY, metadata=None, compression="zlib", tile=tile, rowsperstrip=None if tile else 90)
    redeclare(tif, **{tag: 64_000 if tile else 2**31 // 90})
    if tile:
        redeclare(tif, TileLength=64_000)
    monkeypatch.delattr(tifffile.TiffPageSeries, "asarray")
    assert "too few to be true" in refusal(tif).what


def test_an_image_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    tif: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tif, np.random.default_rng(0).integers(0, 255, (8200, 8200), np.uint8))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**6))
    monkeypatch.delattr(tifffile.TiffPageSeries, "asarray")
    assert "67,240,000 bytes of memory" in refusal(tif).what


def test_other_files_that_an_image_names_are_not_opened(tif: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tif.with_name("pipe"))  # to open it would wait for ever
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:aa">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="70" SizeY="90" '
        'SizeZ="1" SizeC="1" SizeT="1"><TiffData IFD="0" PlaneCount="1"><UUID FileName="pipe">urn:uuid:bb</UUID>'
        "</TiffData></Pixels></Image></OME>"
    )
    save(tif, GREY, metadata=None, description=xml)
    np.testing.assert_array_equal(images.load(str(tif)).pixels, GREY)


def test_a_name_that_is_no_text_becomes_one(tif: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tif.parent) + b"/\xff.tif"))
    try:
        save(odd, GREY)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    assert images.load(str(odd)).name == "\N{REPLACEMENT CHARACTER}.tif"


def test_a_name_with_a_nul_is_refused() -> None:
    with pytest.raises(CellbenchError, match="no image of such a name"):
        images.load("a\0b.tif")


def test_an_image_of_no_width_is_refused(tif: Path) -> None:
    save(tif, GREY, metadata=None)
    redeclare(tif, ImageWidth=0)
    assert "no pixels" in refusal(tif).what


def test_tifffile_is_heard_by_nobody_and_left_as_it_was(
    tif: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    logger = logging.getLogger("tifffile")
    before = (list(logger.handlers), logger.propagate, logger.level)
    save(tif, STACK, photometric="minisblack", metadata=None)
    tif.write_bytes(tif.read_bytes()[:-400])
    assert "invalid page offset" in refusal(tif).what
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert (logger.handlers, logger.propagate, logger.level) == before


def test_what_tifffile_only_logs_is_an_error_even_where_logging_is_turned_down(
    tif: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tif, STACK, photometric="minisblack", metadata=None)
    tif.write_bytes(tif.read_bytes()[:-400])
    with caplog.at_level(logging.CRITICAL):
        assert "invalid page offset" in refusal(tif).what


def test_fewer_pixels_than_the_metadata_say_are_an_error(tif: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tif, GREY)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lambda series: GREY[:80])
    assert "declares 90 × 70 pixels and holds 80 × 70" in refusal(tif).what


def test_a_built_in_image_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = synthetic.sparse(height_px=64, width_px=80, n_cells=1)
    monkeypatch.setitem(synthetic.BUILT_IN, "sparse", lambda: scene)
    image = images.load("sparse")
    assert (image.name, image.source, image.is_synthetic) == ("sparse", "sparse", True)
    np.testing.assert_array_equal(image.pixels, scene.image)
    assert image.sha256 == hashlib.sha256(scene.image.tobytes()).hexdigest()
    with pytest.raises(CellbenchError, match="nothing to pick"):
        images.load("sparse", plane=0)


def test_the_hash_is_of_the_values_not_of_their_layout() -> None:
    pixels = GREY.astype(np.uint16)
    assert images.hash_pixels(pixels) == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert images.hash_pixels(pixels.astype(">u2")) == images.hash_pixels(pixels)
    assert images.hash_pixels(np.asfortranarray(pixels)) == images.hash_pixels(pixels)


def test_the_article_s_image_has_the_hash_on_record() -> None:
    if not ARTICLE_IMAGE.exists():
        pytest.skip("cell_00505.tif, the article's image, is not distributed with the code")
    image = images.load(str(ARTICLE_IMAGE))
    assert (image.pixels.shape, image.pixels.dtype, image.sha256) == ((2160, 2560), np.uint8, ARTICLE_SHA256)


@pytest.mark.parametrize(("side", "top", "left"), [(4, 1, 2), (5, 1, 1), (1, 3, 3), (7, 0, 0)])
def test_crops_are_centred(side: int, top: int, left: int) -> None:
    pixels = np.arange(7 * 8, dtype=np.uint16).reshape(7, 8)
    crop = images.crop(pixels, side)
    np.testing.assert_array_equal(crop, pixels[top : top + side, left : left + side], strict=True)
    assert crop.flags.c_contiguous


@pytest.mark.parametrize("side", [40, "full"])
def test_a_crop_is_a_copy(side: images.Crop) -> None:
    pixels = GREY.copy()
    images.crop(pixels, side)[:] = 0
    np.testing.assert_array_equal(pixels, GREY)
    assert images.crop(pixels, "full").shape == GREY.shape


@pytest.mark.parametrize("side", [0, -5, 71])
def test_an_impossible_crop_is_not_silently_another_one(side: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        images.crop(GREY, side)


def image_of(height_px: int, width_px: int) -> images.Image:
    return images.Image("cells.tif", "/data/cells.tif", np.zeros((height_px, width_px), np.uint8), "", False)


def test_impossible_crops_are_named_all_at_once() -> None:
    with pytest.raises(CellbenchError) as caught:
        images.check_crops(image_of(90, 70), [32, 71, 0, "full", 7, -5, 2016, 1])
    assert caught.value.what.endswith(": 71, 0, 7, -5, 2016, 1")
    assert "70 × 90 px" in caught.value.what
    assert caught.value.where == "/data/cells.tif"
    assert "8 to 70 px" in caught.value.fix


SIZES_PX = [1, 2, 3, 5, 7, 8, 9, 15, 64, 500]


@pytest.mark.parametrize("crop", ["full", 1, 4, 7, 8, 16, 64, 501])
def test_what_cellpose_cannot_segment_is_refused_before_anything_is_measured(crop: images.Crop) -> None:
    for height_px, width_px in itertools.product(SIZES_PX, SIZES_PX):
        shorter_px = min(height_px, width_px)
        try:
            images.check_crops(image_of(height_px, width_px), [crop])
            fix = None
        except CellbenchError as error:
            fix = error.fix
        if shorter_px < 8:
            assert fix == "choose a larger image", (height_px, width_px)
        else:
            is_possible = crop == "full" or 8 <= crop <= shorter_px
            assert fix == (None if is_possible else f"use crops of 8 to {shorter_px} px"), (height_px, width_px)


SMALL_IMAGES = """
import json, sys
import numpy as np
from harness.engines.registry import engine_of
from harness.images import synthetic

engine = engine_of("cyto3")
engine.prepare("cyto3", sys.argv[1], "")
engine.start()
engine.set_threads(1)
model = engine.load("cyto3", "cpu", "float32")
scene = synthetic.dense(height_px=200, width_px=200).image
for height_px, width_px in json.loads(sys.argv[2]):
    crop = np.ascontiguousarray(scene[:height_px, :width_px])
    shapes = []
    for pixels in (crop, np.zeros_like(crop)):
        try:
            shapes.append(model.segment(pixels).masks.shape)
        except TypeError:
            shapes.append(None)
    print(json.dumps(shapes))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_smallest_images_that_cellpose_segments() -> None:
    least_px = images.MIN_SIDE_PX
    lengths_px = (least_px, least_px + 1, 40)
    good = [(least_px, length) for length in lengths_px] + [(length, least_px) for length in lengths_px]
    bad = [(1, 1), *((least_px - 1, length) for length in lengths_px)]
    folder = str(weights.resolve("standin").folder)
    words = [sys.executable, "-c", SMALL_IMAGES, folder, json.dumps(good + bad)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shapes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert shapes == [[list(size)] * 2 for size in good] + [[None] * 2] + [[[size[1]]] * 2 for size in bad[1:]]


def test_a_chain_of_pages_that_leads_back_is_refused(tmp_path: Path) -> None:
    """In a process of its own, since such a file was read without end."""
    stack = tmp_path / "stack.tif"
    with tifffile.TiffWriter(stack) as writer:
        for side in (32, 24, 16):  # of equal pages tifffile looks for the last one
            writer.write(np.zeros((side, side), np.uint8), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(stack) as tiff:
        starts = [page.offset for page in tiff.pages]
        links = [page.offset + 2 + 12 * len(page.tags) for page in tiff.pages]  # where the start of the next page is
    for at, back in itertools.product(links, starts):
        content = bytearray(stack.read_bytes())
        content[at : at + 4] = back.to_bytes(4, "little")
        (tmp_path / f"{at}-{back}.tif").write_bytes(content)
    look = """
import sys
from harness import images
from harness.errors import CellbenchError
for path in sys.argv[1:]:
    try:
        images.load(path, 0)
    except CellbenchError:
        print("rejected")
"""
    paths = sorted(str(path) for path in tmp_path.glob("*-*.tif"))
    done = subprocess.run([sys.executable, "-c", look, *paths], capture_output=True, text=True, check=True, timeout=20)
    # From the last page back to any, from a page to itself, and from the second to the first: each is a circle.
    assert done.stdout.count("rejected") >= 6
