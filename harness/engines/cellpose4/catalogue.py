"""The stages, tiles and operations of a call of Cellpose-SAM."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.engines.base import StageCatalogue, Work
from harness.engines.cellpose.stages import STAGES

CATALOGUE = StageCatalogue({"mask": "the only pass over the image", "none": "outside the pass"}, STAGES)

TILE_SIDE_PX = 256
# Of one tile, from the layers' shapes: 24 blocks of width 1024 on 1,024 tokens with global attention, and the neck.
TILE_GFLOP = 727.0
TILE_GB = 12.0  # weights and activations in bfloat16, a first guess that no figure rests on
TRAINED_DIAMETER_PX = 30.0  # a call with a diameter scales the image to it; a call without does not scale

# Memory of stock's network: its 304.6 M parameters, and what its largest block holds of a tile (the scores of 16 heads
# four times over, and the inner layer). The processor's own part was measured, that of a CUDA context is a guess.
PARAMETER_BYTES = {"bfloat16": 0.61e9, "float32": 1.22e9}
PER_TILE_BYTES = {"bfloat16": 0.15e9, "float32": 0.30e9}
LOAD_BYTES = 2.2e9  # on the host, while cellpose builds the network and reads its file; 2.7e9 in float32
CONTEXT_BYTES = 0.5e9
TILES_PER_CALL = 8  # stock's batch_size

# Whole calls in GFLOP/s of the network, where a device's speed is not known yet. CPU: per physical core, between 24
# without bfloat16 arithmetic and 190 with AVX512-BF16, a factor of three from both.
GUESS_GFLOP_S = {"cpu": 68.0, "cuda": 15_000.0, "mps": 2_000.0}


def memory_bytes(dtype: str, n_tiles: int = TILES_PER_CALL) -> float:
    """The approximate memory of a call on the device that computes, in bytes."""
    return CONTEXT_BYTES + PARAMETER_BYTES[dtype] + n_tiles * PER_TILE_BYTES[dtype]


def shortages(free_bytes: float, gpus_bytes: Sequence[float]) -> list[str]:
    """Warnings where memory is short, as sentences; free_bytes: of the host, gpus_bytes: whole GPUs."""
    needs = memory_bytes("bfloat16"), memory_bytes("float32"), memory_bytes("bfloat16", 1)
    half, full, least = (f"{each / 1e9:.1f}" for each in needs)
    found = []
    if free_bytes < (needed := max(LOAD_BYTES, memory_bytes("bfloat16"))):
        found.append(
            f"{free_bytes / 1e9:.1f} GB of memory are free, and Cellpose-SAM needs about {needed / 1e9:.1f} GB "
            f"({full} GB in float32): this machine will swap, or end the process."
        )
    for size_bytes in gpus_bytes:
        if size_bytes < memory_bytes("float32"):
            fits = size_bytes >= memory_bytes("bfloat16")
            how = "only bfloat16 fits" if fits else f"use --variants batch=1, which needs about {least} GB"
            found.append(
                f"A GPU here has {size_bytes / 1e9:.1f} GB, and Cellpose-SAM needs about {half} GB in bfloat16 and "
                f"{full} GB in float32: {how}."
            )
    return found


def n_tiles(height_px: int, width_px: int) -> int:
    """Tiles that Cellpose 4 cuts: 256 px with an overlap of 0.1, after padding to multiples of 16."""

    def along(length_px: int) -> int:
        padded_px = 16 * math.ceil(length_px / 16) + 16 if length_px >= TILE_SIDE_PX else max(
            TILE_SIDE_PX, length_px + 16
        )  # fmt: skip
        return 1 if padded_px <= TILE_SIDE_PX else math.ceil(1.2 * padded_px / TILE_SIDE_PX)

    return along(height_px) * along(width_px)


def work(height_px: int, width_px: int, diameter_px: float | None = None) -> Work:
    """One pass over the image, scaled only where a diameter is given."""
    scale = TRAINED_DIAMETER_PX / diameter_px if diameter_px else 1.0
    tiles = n_tiles(int(height_px * scale), int(width_px * scale))
    return Work(tiles, tiles * TILE_GFLOP)
