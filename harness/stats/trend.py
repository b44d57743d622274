"""The change of a speed-up with image size, and the size above which there is one; from measured sizes only.

There is no conclusion for sizes beyond the largest or below the smallest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.stats import special
from harness.stats.student import PROCESSES_MIN

RISING, FLAT, FALLING, UNKNOWN = "still rising", "flat", "falling", "unknown"

SIZES_MIN = 3
FLATNESS = 0.10  # speed-ups within this of the one at the largest size count as equal
ALPHA = 0.05


@dataclass(frozen=True)
class Trend:
    """The change of the speed-up towards the largest size.

    word: rising or falling over the last three sizes; flat from from_px to to_px (lengths as given); or unknown.
    change: the speed-up at to_px over that at from_px, with its interval; None where it is unknown.
    """

    word: str
    from_px: float | None = None
    to_px: float | None = None
    change: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Crossing:
    """The size at which the fast device begins to be faster, among the sizes measured; None where no size shows it.

    slower_to_px: the largest size at which it is slower; faster_from_px: the smallest size from which it stays faster.
    """

    slower_to_px: float | None
    faster_from_px: float | None


def trend(lengths_px: np.ndarray, slow_s: np.ndarray, fast_s: np.ndarray) -> Trend:
    """Judge a speed-up; lengths ascending, medians in s as processes × sizes, none missing."""
    if min(len(slow_s), len(fast_s)) < PROCESSES_MIN or len(lengths_px) < SIZES_MIN:
        return Trend(UNKNOWN)
    sides = [np.log(side) for side in (slow_s, fast_s)]
    gains = sides[0].mean(axis=0) - sides[1].mean(axis=0)
    rise = gains[-1] - gains[:-1]
    reach = _reach([_within(side) for side in sides], len(rise))
    inside = np.abs(rise) + reach < math.log1p(FLATNESS)
    first = len(rise) - int(np.argmin(inside[::-1])) if not inside.all() else 0
    if len(rise) - first < SIZES_MIN - 1:
        first = len(rise) - (SIZES_MIN - 1)
        word = RISING if rise[first] > reach else FALLING if rise[first] < -reach else UNKNOWN
    else:
        word = FLAT
    if word == UNKNOWN:
        return Trend(UNKNOWN)
    value, low, high = (math.exp(rise[first] + sign * reach) for sign in (0, -1, 1))
    return Trend(word, float(lengths_px[first]), float(lengths_px[-1]), (value, low, high))


def crossing(lengths_px: np.ndarray, slow_s: np.ndarray, fast_s: np.ndarray) -> Crossing:
    """Find the measured sizes at which the fast device is faster; arrays as for trend."""
    if min(len(slow_s), len(fast_s)) < PROCESSES_MIN:
        return Crossing(None, None)
    sides = [np.log(side) for side in (slow_s, fast_s)]
    gains = sides[0].mean(axis=0) - sides[1].mean(axis=0)
    reach = _reach([(side.var(axis=0, ddof=1) / len(side), len(side) - 1) for side in sides], len(gains))
    slower, faster = np.flatnonzero(gains < -reach), gains > reach
    first = len(faster) - int(np.argmin(faster[::-1])) if not faster.all() else 0
    return Crossing(
        float(lengths_px[slower[-1]]) if len(slower) else None,
        float(lengths_px[first]) if first < len(faster) else None,
    )


def _within(logs: np.ndarray) -> tuple[float, float]:
    """The variance of a difference between two sizes of the same processes, and its degrees of freedom."""
    n, sizes = logs.shape
    left = logs - logs.mean(axis=0) - logs.mean(axis=1, keepdims=True) + logs.mean()
    freedom = (n - 1) * (sizes - 1)
    return 2 * float((left**2).sum()) / freedom / n, freedom


def _reach(sides: list[tuple[np.ndarray | float, float]], n_claims: int) -> np.ndarray:
    """Half-width of an interval that holds for n_claims together, by Bonferroni; Satterthwaite's freedom."""
    variance = np.asarray(sides[0][0] + sides[1][0])
    parts = np.asarray(sum(each**2 / freedom for each, freedom in sides))  # 0 where processes are equal
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = np.where(parts > 0, variance**2 / parts, 1.0)
    return special.stdtrit(freedom, 1 - ALPHA / 2 / n_claims) * np.sqrt(variance)
