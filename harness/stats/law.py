"""The growth of a device's time: t = fixed + per tile · tiles + per megapixel · megapixels, none negative.

Tiles come in whole numbers, so time over pixels is a staircase. A straight line through it is wrong for small and for
large images. Times spread in proportion to themselves, so the fit uses relative distances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from harness.stats import special
from harness.stats.student import PROCESSES_MIN

SIZES_MIN = 5  # three for the coefficients; the others for the test of the fit
ALPHA = 0.10  # a false law costs more than a good one that is not shown
# Of a prediction: Student's 97.5 % covers 92 to 95 % where noise has heavy tails. A single process has more of them.
QUANTILE, QUANTILE_OF_PROCESS = 0.98, 0.985
TOLERANCE = 0.015  # of a time: a law that misses by less is good enough
ROUNDS = 3  # of the fit: its weights come from its result


@dataclass(frozen=True)
class Prediction:
    """The expected measurement in s, with its 95 % prediction interval."""

    value_s: float
    low_s: float
    high_s: float


@dataclass(frozen=True)
class Spread:
    """Variances on logarithms: of a process's mean over n_sizes, and of its single time about that mean."""

    n: int
    n_sizes: int
    process: float
    single: float


@dataclass(frozen=True)
class Law:
    """The law of one device.

    coefficients: fixed, per tile and per megapixel, in s; 0 where the times do not need it. relative_error: root mean
    square distance of a time from the law, as a share of it, with its degrees of freedom. misfit: the part of it that
    the processes do not explain; misfit_p: of none. Both are None with fewer than three processes. bounds: the smallest
    and the largest numbers of tiles and of megapixels measured. inverse: of the normal matrix, on relative distances.
    spread: of the processes, on logarithms; None with fewer than three.
    """

    coefficients: tuple[float, float, float]
    relative_error: float
    freedom: int
    misfit: float | None
    misfit_p: float | None
    bounds: tuple[tuple[float, float], tuple[float, float]]
    inverse: np.ndarray
    spread: Spread | None

    @property
    def is_good(self) -> bool:
        """Whether the law may be shown: it was tested, and its misfit is small or may be chance."""
        if self.misfit is None or self.misfit_p is None:
            return False
        return self.misfit <= TOLERANCE or self.misfit_p >= ALPHA

    def at(self, tiles: float, mpx: float) -> Prediction | None:
        """Predict the mean of these processes for this work; None outside the measured range."""
        if not all(low <= each <= high for each, (low, high) in zip((tiles, mpx), self.bounds, strict=True)):
            return None
        value_s, leverage = self._value(tiles, mpx)
        return _prediction(value_s, self.relative_error**2 * (1 + leverage), self.freedom)

    def of_process(self, tiles: float, mpx: float, more: float = 0.0) -> Prediction | None:
        """Predict the time in one further process; None also with fewer than three processes.

        more: variance on logarithms that such a time has beyond those of the processes.
        """
        if self.spread is None or self.at(tiles, mpx) is None:
            return None
        value_s, leverage = self._value(tiles, mpx)
        n, n_sizes = self.spread.n, self.spread.n_sizes
        parts = (
            (self.relative_error**2 * leverage, self.freedom),
            (self.spread.process * (1 + 1 / n), n - 1),
            (self.spread.single * (1 - 1 / n_sizes) + more, (n - 1) * (n_sizes - 1)),
        )
        variance = sum(each for each, _ in parts)
        total = sum(each**2 / freedom for each, freedom in parts)  # Satterthwaite's degrees of freedom
        freedom = variance**2 / total if total else self.freedom
        return _prediction(value_s, variance, freedom, QUANTILE_OF_PROCESS)

    def _value(self, tiles: float, mpx: float) -> tuple[float, float]:
        """The law's time in s, and the variance of its logarithm in units of the sizes' own."""
        work = np.array([1.0, tiles, mpx])
        value_s = float(work @ self.coefficients)
        return value_s, float(work @ self.inverse @ work) / value_s**2


def _prediction(value_s: float, variance: float, freedom: float, quantile: float = QUANTILE) -> Prediction:
    reach = float(special.stdtrit(freedom, quantile)) * math.sqrt(variance)
    return Prediction(value_s, value_s * math.exp(-reach), value_s * math.exp(reach))


def fit(tiles: Sequence[float], mpx: Sequence[float], processes_s: np.ndarray) -> Law | None:
    """The law of one device; None with fewer than five sizes, or where time does not grow.

    tiles, mpx: the work of each size. processes_s: medians in s, processes × sizes; NaN where a process lacks a size.
    """
    logs = np.log(np.asarray(processes_s, float))
    design = np.column_stack([np.ones(len(tiles)), tiles, mpx])
    if len(design) < SIZES_MIN:
        return None
    mean_log = np.nanmean(logs, axis=0)
    times, fitted = np.exp(mean_log), np.exp(mean_log)
    coefficients = np.zeros(3)
    for _ in range(ROUNDS):
        coefficients = non_negative(design / fitted[:, None], times / fitted)
        fitted = design @ coefficients
    used = coefficients > 0
    if not used[1:].any():
        return None
    distances = mean_log - np.log(fitted)
    freedom = len(times) - len(coefficients)
    weighted = design[:, used] / fitted[:, None]
    inverse = np.zeros((3, 3))
    inverse[np.ix_(used, used)] = np.linalg.inv(weighted.T @ weighted)
    spread = _spread(logs)
    misfit, misfit_p = _lack_of_fit(spread, distances, freedom)
    fixed_s, per_tile_s, per_mpx_s = map(float, coefficients)
    return Law(
        (fixed_s, per_tile_s, per_mpx_s), math.sqrt(float(distances @ distances) / freedom), freedom, misfit, misfit_p,
        ((float(np.min(tiles)), float(np.max(tiles))), (float(np.min(mpx)), float(np.max(mpx)))), inverse,
        spread,
    )  # fmt: skip


def non_negative(design: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The coefficients ≥ 0 with the least squares of design @ coefficients - times, for few columns.

    The best of those with fewer columns that are all positive. scipy's nnls does the same, and takes 0.2 s to import.
    """
    best, least = np.zeros(design.shape[1]), np.inf
    for chosen in product((False, True), repeat=design.shape[1]):
        columns = np.flatnonzero(chosen)
        found, *_ = np.linalg.lstsq(design[:, columns], times, rcond=None)
        left = float(((design[:, columns] @ found - times) ** 2).sum())
        if (found >= 0).all() and left < least:
            best, least = np.zeros(design.shape[1]), left
            best[columns] = found
    return best


def _spread(logs: np.ndarray) -> Spread | None:
    """The spread of the processes that have all sizes: of each as a whole, and what is left of single times."""
    logs = logs[~np.isnan(logs).any(axis=1)]
    n, n_sizes = logs.shape
    if n < PROCESSES_MIN:
        return None
    left = logs - logs.mean(axis=0) - logs.mean(axis=1, keepdims=True) + logs.mean()
    single = float((left**2).sum()) / (n - 1) / (n_sizes - 1)
    return Spread(n, n_sizes, float(logs.mean(axis=1).var(ddof=1)), single)


def _lack_of_fit(spread: Spread | None, distances: np.ndarray, freedom: int) -> tuple[float | None, float | None]:
    """The misfit of the law beyond the variation between processes, and the p of Fisher's F test for it."""
    if spread is None:
        return None, None
    pure, found = spread.single / spread.n, float(distances @ distances) / freedom
    pure_freedom = (spread.n - 1) * (spread.n_sizes - 1)
    p = float(special.fdtrc(freedom, pure_freedom, found / pure)) if pure else float(found == 0)
    return math.sqrt(max(found - pure, 0.0)), p
