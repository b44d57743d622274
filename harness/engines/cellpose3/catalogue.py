"""The passes, stages, tiles and operations of a call of cellpose 3."""

from __future__ import annotations

import math

from harness.engines.base import Stage, StageCatalogue, Work
from harness.engines.cellpose.stages import IMAGES, STAGES

# cellpose goes over the image three times when it estimates the diameter.
CATALOGUE = StageCatalogue(
    passes={
        "style": "style vector and a first guess of the diameter",
        "size": "masks at that guess",
        "mask": "the masks that are returned",
        "none": "outside the passes",
    },
    stages=(*STAGES[:-1], Stage("diameter", "median diameter of the masks", IMAGES), STAGES[-1]),
)

# Of one tile through CPnet. Operations: counted with torch's FlopCounterMode. Traffic: bytes that every operation of
# the unfused fp32 network reads and writes, counted with a TorchDispatchMode. Both scale with the tile's area.
TILE_SIDE_PX = 224
TILE_GFLOP = 31.005
TILE_GB = 1.055
TRAINED_DIAMETER_PX = {"cyto3": 30.0, "cyto2": 30.0, "nuclei": 17.0}  # to which a model scales every image
COMMON_DIAMETER_PX = 68.0  # of the cells in the article's image and in the built-in one

# Whole calls of stock cellpose 3.1 in TFLOP/s of its network, where a device's speed is not known yet. CPU: per
# physical core, from runs on AVX2 and NEON machines; CUDA and MPS: from the article's RTX 4070 (7.8 TFLOP in 5.3 s) and
# M1 (in 19.6 s).
GUESS_GFLOP_S = {"cpu": 45.0, "cuda": 1500.0, "mps": 400.0}


def n_tiles(height_px: int, width_px: int, scale: float) -> int:
    """Tiles that cellpose 3.1 cuts (224 px, overlap 0.1) after scaling and padding to multiples of 16."""

    def along(length_px: int) -> int:
        canvas_px = 16 * math.ceil(int(length_px * scale) / 16) + 16
        return 1 if canvas_px <= TILE_SIDE_PX else max(2, math.ceil(1.2 * canvas_px / TILE_SIDE_PX))

    return along(height_px) * along(width_px)


def work(model: str, height_px: int, width_px: int, diameter_px: float | None = None, is_given: bool = False) -> Work:
    """The three passes of eval(diameter=0): style at scale 1, size and mask at the scale of the diameter.

    A call whose diameter is given makes the last one only.
    """
    at_diameter = n_tiles(height_px, width_px, TRAINED_DIAMETER_PX[model] / (diameter_px or COMMON_DIAMETER_PX))
    tiles = at_diameter if is_given else n_tiles(height_px, width_px, 1.0) + 2 * at_diameter
    return Work(tiles, tiles * TILE_GFLOP)
