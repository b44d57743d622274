"""What Cellpose-SAM is made of and what a call costs: stages, tiles, operations."""

from __future__ import annotations

import math

from harness.engines.base import StageCatalogue, Work
from harness.engines.cellpose_stages import STAGES

CATALOGUE = StageCatalogue({"mask": "the only pass over the image", "none": "outside the pass"}, STAGES)

TILE_SIDE_PX = 256
# Of one tile, from the layers' shapes: 24 blocks of width 1024 on 1,024 tokens with global attention, and the neck.
TILE_GFLOP = 727.0
TILE_GB = 12.0  # weights and activations in bfloat16, a first guess that no figure rests on
TRAINED_DIAMETER_PX = 30.0  # a call with a diameter scales the image to it; a call without does not scale

# Whole calls in GFLOP/s of the network, where a device's speed is not known yet. CPU: per physical core.
GUESS_GFLOP_S = {"cpu": 25.0, "cuda": 15_000.0, "mps": 2_000.0}


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
