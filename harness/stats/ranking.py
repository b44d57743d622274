"""Order several devices by speed, and find those that do not differ for certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.stats import special
from harness.stats.difference import ALPHA, holm
from harness.stats.student import PROCESSES_MIN

# Devices that were measured at different times differ by that, too. Where its size is unknown, the largest allowed
# value is used: an SD of 10 % from run to run and of 5 % from day to day, and a little more.
HOUR_SD = 0.12


@dataclass(frozen=True)
class Device:
    """A device to rank. medians_s: of each of its processes; hour: equal for devices of one run on one machine."""

    medians_s: Sequence[float]
    hour: str


@dataclass(frozen=True)
class Place:
    """The best and the worst place that a device may have, the fastest being 1."""

    first: int
    last: int

    @property
    def is_fastest(self) -> bool:
        """Whether it is faster than every other one."""
        return self.last == 1


def places(devices: Sequence[Device]) -> list[Place]:
    """The places of devices, in their order; the chance of any wrong one is at most 5 %.

    Half of that goes to the question whether one is faster than each other one, which needs no correction; the other
    half to all pairs (Holm). A device with fewer than three processes may have any place that the others leave.
    """
    pairs = list(combinations(range(len(devices)), 2))
    shifts, p = np.array([_compared(devices[i], devices[j]) for i, j in pairs]).reshape(-1, 2).T
    faster = np.zeros((len(devices), len(devices)), bool)  # row than column
    surely = faster.copy()  # each pair judged alone
    alpha = ALPHA / 2 if len(devices) > 2 else ALPHA
    for (i, j), shift, alone, corrected in zip(pairs, shifts, p, holm(p), strict=True):
        winner = (i, j) if shift > 0 else (j, i)
        faster[winner], surely[winner] = corrected < alpha, alone < alpha
    beats_all = surely.sum(axis=1) == len(devices) - 1
    faster[beats_all] = surely[beats_all]
    best, worst = faster.sum(axis=0), faster.sum(axis=1)
    return [Place(int(above) + 1, len(devices) - int(below)) for above, below in zip(best, worst, strict=True)]


def _compared(one: Device, other: Device) -> tuple[float, float]:
    """The ratio other to one, on logarithms, and the p of no difference: Welch's, or NaN where it is unknown."""
    logs = [np.log(np.asarray(each.medians_s, float)) for each in (one, other)]
    shift = float(logs[1].mean() - logs[0].mean())
    if min(map(len, logs)) < PROCESSES_MIN:
        return shift, np.nan
    parts = [side.var(ddof=1) / len(side) for side in logs]
    variance = sum(parts) + (2 * HOUR_SD**2 if one.hour != other.hour else 0.0)
    satterthwaite = sum(part**2 / (len(side) - 1) for part, side in zip(parts, logs, strict=True))
    if not variance:
        return shift, float(shift == 0)
    freedom = variance**2 / satterthwaite if satterthwaite else np.inf
    return shift, 2 * float(special.stdtr(freedom, -abs(shift) / np.sqrt(variance)))
