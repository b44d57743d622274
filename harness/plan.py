"""From a Config and the devices there are to the cases to measure, in blocks; pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from harness.config import Config
from harness.errors import CellbenchError

# Where a device's speed is not known yet: whole-eval throughput of stock cellpose 3.1 in TFLOP/s of its
# network, for a first guess of the duration. CPU: per physical core, from runs on AVX2 and NEON machines;
# CUDA and MPS: from the article's RTX 4070 (7.8 TFLOP in 5.3 s) and M1 (in 19.6 s).
GUESS_TFLOPS = {"cpu": 0.045, "cuda": 1.5, "mps": 0.4}
TILE_TFLOP = 0.031005  # one 224 px tile through CPnet, counted with torch's FlopCounterMode
START_S = 15.0  # a fresh process: import, numba compilation, model, first call


@dataclass(frozen=True)
class Device:
    """A backend with an index, proven to compute."""

    backend: str
    index: int
    name: str

    @property
    def id(self) -> str:
        return f"cuda:{self.index}" if self.backend == "cuda" else self.backend


@dataclass(frozen=True)
class Case:
    """What gets one median on a device: a crop under a protocol."""

    crop: str
    height_px: int
    width_px: int
    protocol: str
    variant: str = "stock"


@dataclass(frozen=True)
class Block:
    """A fresh process on one device that goes through its cases once, in seeded shuffled order."""

    index: int
    device: Device
    cases: tuple[Case, ...]
    warmups: int
    repeats: int


def choose(asked: Sequence[str], available: Sequence[Device]) -> tuple[Device, ...]:
    """The devices to measure; asking for one that this machine lacks is an error, never a fallback."""
    if "auto" in asked:
        return tuple(available)
    chosen: list[Device] = []
    for word in asked:
        matching = [d for d in available if word in (d.id, d.backend)]
        if not matching:
            have = ", ".join(f"{d.id} ({d.name})" for d in available)
            raise CellbenchError(f"this machine has no device {word}", "--devices", f"it has: {have}")
        chosen += [d for d in matching if d not in chosen]
    return tuple(chosen)


def blocks(config: Config, height_px: int, width_px: int, devices: Sequence[Device]) -> tuple[Block, ...]:
    """Every block of a run in the order to run them; the same seed gives the same order."""
    cases = [
        Case(str(crop), *((height_px, width_px) if crop == "full" else (crop, crop)), protocol)
        for crop in config.crops
        for protocol in config.protocols
    ]
    planned: list[Block] = []
    for index in range(config.blocks):
        rng = random.Random(f"{config.seed}/{index}")
        for device in rng.sample(list(devices), len(devices)):
            order = tuple(rng.sample(cases, len(cases)))
            planned.append(Block(index, device, order, config.warmups, config.repeats))
    return tuple(planned)


def n_tiles(height_px: int, width_px: int, scale: float) -> int:
    """Tiles that cellpose 3.1 cuts (224 px, overlap 0.1) after scaling and padding to multiples of 16."""

    def along(length_px: int) -> int:
        canvas_px = 16 * math.ceil(length_px * scale / 16) + 16
        return 1 if canvas_px < 224 else max(2, math.ceil(1.2 * canvas_px / 224))

    return along(height_px) * along(width_px)


def network_tflop(height_px: int, width_px: int, diameter_px: float = 68.0) -> float:
    """Work of the three network passes of eval(diameter=0): style at scale 1, size and mask at 30/diameter."""
    scale = 30.0 / diameter_px
    return TILE_TFLOP * (n_tiles(height_px, width_px, 1.0) + 2 * n_tiles(height_px, width_px, scale))


def estimate_s(planned: Sequence[Block], n_cores: int) -> float:
    """A first guess of the whole run's duration, good to a factor of two or three."""
    total_s = 0.0
    for block in planned:
        tflops = GUESS_TFLOPS[block.device.backend] * (n_cores if block.device.backend == "cpu" else 1)
        work_tflop = sum(network_tflop(case.height_px, case.width_px) for case in block.cases)
        total_s += START_S + (block.warmups + block.repeats) * work_tflop / tflops
    return total_s
