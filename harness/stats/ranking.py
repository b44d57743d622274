"""Order several devices by speed, and find those that do not differ for certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    one, other = np.triu_indices(len(devices), 1)
    shifts, p = _compared(devices, one, other)
    faster = np.zeros((len(devices), len(devices)), bool)  # row than column
    surely = faster.copy()  # each pair judged alone
    alpha = ALPHA / 2 if len(devices) > 2 else ALPHA
    pairs = np.where(shifts > 0, (one, other), (other, one))
    faster[tuple(pairs)], surely[tuple(pairs)] = holm(p) < alpha, p < alpha
    beats_all = surely.sum(axis=1) == len(devices) - 1
    faster[beats_all] = surely[beats_all]
    best, worst = faster.sum(axis=0), faster.sum(axis=1)
    return [Place(int(above) + 1, len(devices) - int(below)) for above, below in zip(best, worst, strict=True)]


def _compared(devices: Sequence[Device], one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ratios other to one of pairs, on logarithms, and Welch's p of no difference.

    one, other: the devices of each pair. p: NaN where a device has too few processes.
    """
    logs = [np.log(np.asarray(each.medians_s, float)) for each in devices]
    n, means, hours = np.array([*map(len, logs)]), np.array([*map(np.mean, logs)]), np.array([d.hour for d in devices])
    is_known = n >= PROCESSES_MIN
    parts = np.array(
        [side.var(ddof=1) / len(side) if enough else np.nan for side, enough in zip(logs, is_known, strict=True)]
    )
    variance = parts[one] + parts[other] + np.where(hours[one] != hours[other], 2 * HOUR_SD**2, 0.0)
    shift = means[other] - means[one]
    with np.errstate(divide="ignore", invalid="ignore"):
        satterthwaite = sum(parts[side] ** 2 / (n[side] - 1) for side in (one, other))
        freedom = np.where(satterthwaite > 0, variance**2 / satterthwaite, np.inf)
        p = 2 * special.stdtr(freedom, -np.abs(shift) / np.sqrt(variance))
    p = np.where(variance == 0, (shift == 0).astype(float), p)
    return shift, np.where(is_known[one] & is_known[other], p, np.nan)
