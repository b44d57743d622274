"""The 95 % interval of a median, of a ratio of two medians, or of many calls: on logarithms, from processes.

Repetitions of one process share its state, so the unit is the median of a process. Fewer than three processes give no
interval; then only the range of the measurements is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.stats import difference, special
from harness.stats.student import PROCESSES_MIN

QUANTILE, QUANTILE_OF_MEDIAN = 0.975, 0.98  # a single side may be skewed, as where some processes are slow
MANY = 1e6  # degrees of freedom above which Student's t is the normal distribution


@dataclass(frozen=True)
class Interval:
    """The median of all repetitions, a ratio of two, or the mean of many calls, and its 95 % interval.

    low, high: of the geometric mean of the processes' medians, or of the calls of one further process; None with fewer
    than three processes (of either side).
    least, most: the range of single measurements; of a ratio the smallest and the largest that they allow. n,
    n_processes: their numbers, of the side that has fewer.
    """

    value: float
    low: float | None
    high: float | None
    least: float
    most: float
    n: int
    n_processes: int

    @property
    def ends(self) -> tuple[float, float]:
        """The interval, or else the range."""
        return (self.least, self.most) if self.low is None or self.high is None else (self.low, self.high)

    @property
    def basis(self) -> str:
        """The source of the interval, or else of the range: processes, or the repetitions of too few processes."""
        return "processes" if self.n_processes >= PROCESSES_MIN else "repetitions"


def of_median(processes: Sequence[np.ndarray]) -> Interval:
    """The median of all repetitions; processes: durations in s of each process, all positive."""
    return _interval(_side(processes), QUANTILE_OF_MEDIAN)


def of_ratio(above: Sequence[np.ndarray], below: Sequence[np.ndarray]) -> Interval:
    """The ratio of two independent medians; each a sequence of processes as in of_median."""
    one, other = _side(above), _side(below)
    variance = one.variance + other.variance
    parts = one.variance**2 / one.freedom + other.variance**2 / other.freedom  # Satterthwaite's
    span = one.least / other.most, one.most / other.least
    n = min(one.n, other.n), min(one.n_processes, other.n_processes)
    freedom = variance**2 / parts if parts > 0 else MANY
    return _interval(_Side(one.log - other.log, one.mean - other.mean, variance, freedom, *span, *n), QUANTILE)


def of_batch(processes: Sequence[np.ndarray], n_calls: int) -> Interval:
    """The mean duration of n_calls in one further process, with its prediction interval; processes as in of_median.

    It has the spread of processes, not that of runs or days.
    """
    side = _side(processes, np.mean)
    variance = side.variance * (side.n_processes + 1) + beyond_processes(processes, n_calls)
    return _interval(replace(side, log=side.mean, variance=variance), QUANTILE_OF_MEDIAN)


def beyond_processes(processes: Sequence[np.ndarray], n_calls: int) -> float:
    """The variance of a mean of n_calls beyond that of the processes' own means; on logarithms."""
    freedom = sum(len(process) - 1 for process in processes)
    if not freedom:
        return 0.0
    left = sum(float(np.log(process).var()) * len(process) for process in processes)
    return max(1 / n_calls - len(processes) / (freedom + len(processes)), 0.0) * left / freedom


@dataclass(frozen=True)
class _Side:
    """Logarithms of the centre and of the processes' mean, that mean's variance and freedom, and the measurements."""

    log: float
    mean: float
    variance: float
    freedom: float
    least: float
    most: float
    n: int
    n_processes: int


def _interval(side: _Side, quantile: float) -> Interval:
    value, measured = math.exp(side.log), (side.least, side.most, side.n, side.n_processes)
    reach = float(special.stdtrit(min(side.freedom, MANY), quantile)) * math.sqrt(side.variance)
    low, high = difference.ends(side.mean, reach)
    if low is None or high is None:
        return Interval(value, None, None, *measured)
    return Interval(value, min(low, value), max(high, value), *measured)


def _side(processes: Sequence[np.ndarray], centre: Callable[[np.ndarray], np.floating] = np.median) -> _Side:
    every = np.concatenate(processes)
    n = len(processes)
    centres = np.log([centre(process) for process in processes])
    variance = float(centres.var(ddof=1)) / n if n >= PROCESSES_MIN else math.nan
    log, mean = math.log(float(centre(every))), float(centres.mean())
    return _Side(log, mean, variance, max(n - 1, 1), float(every.min()), float(every.max()), len(every), n)
