"""How well a median, or a ratio of two medians, is known: 95 % intervals in closed form, on logarithms.

Repetitions of one process share its luck, so where there are several processes the unit is the median of each.
With a single process the interval is that of its repetitions, by Price and Bonett (2002, Statistics in Medicine 21,
"Distribution-free confidence intervals for difference and ratio of medians"), and says nothing of other processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

CONFIDENCE = 0.95
MIN_REPETITIONS = 3  # of a single process; two say next to nothing about their own median
MANY = 1e6  # degrees of freedom from which on Student's t is the normal distribution


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval; low and high are None where too little was measured to tell.

    basis: processes, or repetitions (of a single process).
    """

    value: float
    low: float | None
    high: float | None
    basis: str


@dataclass(frozen=True)
class _Centre:
    """The logarithm of a median, the variance of that estimate, its degrees of freedom and where they come from."""

    log: float
    variance: float
    freedom: float
    basis: str


def of_median(processes: Sequence[np.ndarray]) -> Interval:
    """The median of all repetitions; processes: durations in s of each process, all positive."""
    return _interval(_centre(processes))


def of_ratio(above: Sequence[np.ndarray], below: Sequence[np.ndarray]) -> Interval:
    """The ratio of two independent medians; each a sequence of processes as in of_median."""
    one, other = _centre(above), _centre(below)
    variance = one.variance + other.variance
    parts = one.variance**2 / one.freedom + other.variance**2 / other.freedom  # Satterthwaite's
    freedom = variance**2 / parts if parts > 0 else MANY
    basis = "processes" if one.basis == other.basis == "processes" else "repetitions"
    return _interval(_Centre(one.log - other.log, variance, freedom, basis))


def _interval(centre: _Centre) -> Interval:
    value = math.exp(centre.log)
    if math.isnan(centre.variance):
        return Interval(value, None, None, centre.basis)
    reach = float(special.stdtrit(min(centre.freedom, MANY), 0.5 + CONFIDENCE / 2)) * math.sqrt(centre.variance)
    return Interval(value, value * math.exp(-reach), value * math.exp(reach), centre.basis)


def _centre(processes: Sequence[np.ndarray]) -> _Centre:
    log = math.log(float(np.median(np.concatenate(processes))))
    if len(processes) > 1:
        medians = np.log([np.median(process) for process in processes])
        return _Centre(log, float(medians.var(ddof=1)) / len(medians), len(medians) - 1, "processes")
    return _Centre(log, _variance(np.log(np.sort(processes[0]))), MANY, "repetitions")


def _variance(ordered: np.ndarray) -> float:
    """Variance of a median, from two order statistics about one standard error to either side of it."""
    n = len(ordered)
    if n < MIN_REPETITIONS:
        return math.nan
    place = max(round((n + 1) / 2 - math.sqrt(n)), 1)
    z = -float(special.ndtri(special.bdtr(place - 1, n, 0.5)))
    return float((ordered[n - place] - ordered[place - 1]) / (2 * z)) ** 2
