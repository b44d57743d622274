"""Machines that are not quiet, for the simulations of docs/statistics.md: logarithms of durations, no timing.

Calls, processes, runs and days each add their own deviation. Its shape is the same for all four: clean is normal; heavy
tails are Student's t with three degrees of freedom; two modes are normal, but 15 % are shifted by 2.2 standard
deviations; AR(0.8) calls are normal, each call like the one before it. Every deviation has the standard deviation that
is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np

SHAPES = ("clean", "heavy tails", "two modes", "AR(0.8) calls")
AR, SLOW_SHARE = 0.8, 0.15
N_POOL = 100_000


@dataclass(frozen=True)
class Machine:
    """The shape of the deviations, and the standard deviation of each level. calls: number per process."""

    shape: str = "clean"
    process: float = 0.02
    run: float = 0.0
    day: float = 0.0
    call: float = 0.03
    calls: int = 5

    def __str__(self) -> str:
        levels = (f"{name} {100 * getattr(self, name):g} %" for name in ("process", "run", "day"))
        return f"{self.shape}, {', '.join(levels)}"


def grid(
    process: tuple[float, ...] = (0, 0.02, 0.05),
    run: tuple[float, ...] = (0, 0.02, 0.05, 0.10),
    day: tuple[float, ...] = (0, 0.02, 0.05),
) -> Iterator[Machine]:
    """Every cell of the noise grid."""
    for shape, *levels in product(SHAPES, process, run, day):
        yield Machine(shape, *levels)


def luck(rng: np.random.Generator, shape: str, size: tuple[int, ...]) -> np.ndarray:
    """Independent deviations of standard deviation 1."""
    if shape == "heavy tails":
        return rng.standard_t(3, size) / np.sqrt(3)
    normal = rng.standard_normal(size)
    if shape == "two modes":
        return 0.6 * normal + 0.8 * ((rng.random(size) < SLOW_SHARE) - SLOW_SHARE) / np.sqrt(
            SLOW_SHARE * (1 - SLOW_SHARE)
        )
    return normal


def calls(rng: np.random.Generator, machine: Machine, size: tuple[int, ...]) -> np.ndarray:
    """Calls of processes, along the last axis."""
    if machine.shape != "AR(0.8) calls":
        return machine.call * luck(rng, machine.shape, size)
    found = rng.standard_normal(size)
    for i in range(1, size[-1]):
        found[..., i] = AR * found[..., i - 1] + np.sqrt(1 - AR**2) * found[..., i]
    return machine.call * found


@cache
def _medians(machine: Machine) -> np.ndarray:
    """Medians of a process's calls, to draw from."""
    return np.median(calls(np.random.default_rng(7), machine, (N_POOL, machine.calls)), axis=-1)


def processes(rng: np.random.Generator, machine: Machine, size: tuple[int, ...]) -> np.ndarray:
    """Medians of processes, without the deviations of their run and day."""
    pool = _medians(replace(machine, process=0, run=0, day=0))
    return pool[rng.integers(0, N_POOL, size)] + machine.process * luck(rng, machine.shape, size)


def shared(rng: np.random.Generator, machine: Machine, trials: int, cases: int, n: int) -> np.ndarray:
    """Deviations of standard deviation 1, trials × cases × n: half of the variance is common to all cases."""
    if cases == 1:
        return luck(rng, machine.shape, (trials, 1, n))
    common, own = luck(rng, machine.shape, (trials, 1, n)), luck(rng, machine.shape, (trials, cases, n))
    return np.sqrt(0.5) * (common + own)


def runs(
    rng: np.random.Generator, machine: Machine, trials: int, cases: int, n: int, k: int = 3, days: bool = True
) -> np.ndarray:
    """Values of n runs of k processes each, trials × cases × n.

    days: each run has its own day; otherwise all share one.
    """
    own = processes(rng, machine, (trials, cases, n, k)).mean(axis=-1)
    hour = machine.run * shared(rng, machine, trials, cases, n)
    return own + hour + machine.day * shared(rng, machine, trials, cases, n if days else 1)
