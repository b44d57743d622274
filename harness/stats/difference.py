"""The difference of two sides, its interval and p, and the verdict; on logarithms, along the last axis of arrays.

A unit is independent of the others: a day, a pair of interleaved runs, a pair of processes of one run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.stats import special

FASTER, SLOWER, SAME, INCONCLUSIVE = "FASTER", "SLOWER", "SAME", "INCONCLUSIVE"

MARGIN = 0.05  # an interval within 1/1.05 … 1.05 means that nothing changed that matters
ALPHA = 0.04  # below the 5 % that the documentation states, since noise is not normal
UNITS_MIN = 3  # pairs, or days a side where there is no history
HISTORY_MIN = 10  # days; fewer are too few for a machine with two modes or heavy tails
# A mean of few units has the tails of the machine, which are heavier than normal. So p is Student's with a limited
# number of degrees of freedom a unit, and the interval of a single unit takes a wider quantile.
TAIL_FREEDOM = 4
QUANTILE, QUANTILE_OF_ONE = 0.975, 0.9875
TELLING = math.log(100)  # an interval that is wider on both sides, a hundredfold, has no use


@dataclass(frozen=True)
class Difference:
    """Mean of B less mean of A; numbers, or arrays of one shape. error: its standard error, NaN where it is unknown.

    units: the number of independent units in the mean of the smaller side.
    """

    centre: np.ndarray
    error: np.ndarray
    freedom: np.ndarray
    units: int

    @property
    def reach(self) -> np.ndarray:
        """Half the width of the 95 % interval."""
        return special.stdtrit(self.freedom, QUANTILE_OF_ONE if self.units == 1 else QUANTILE) * self.error

    @property
    def p(self) -> np.ndarray:
        """The p-value of no difference, two-sided; NaN where the error is unknown."""
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.where(self.centre == 0, 0.0, np.abs(self.centre) / self.error)
        p = 2 * special.stdtr(np.minimum(self.freedom, TAIL_FREEDOM * self.units), -t)
        return np.where(np.isnan(self.error), np.nan, p)


def ends(centre: float, reach: float) -> tuple[float, float] | tuple[None, None]:
    """The ends of an interval on logarithms as factors; None where it is unknown or too wide to be of use."""
    if not reach <= TELLING:  # NaN too
        return None, None
    return math.exp(centre - reach), math.exp(centre + reach)


def paired(differences: np.ndarray) -> Difference:
    """The mean of the differences within pairs."""
    n = differences.shape[-1]
    centre = differences.mean(axis=-1)
    if n < UNITS_MIN:
        return _unknown(centre, n)
    return Difference(centre, differences.std(axis=-1, ddof=1) / math.sqrt(n), np.asarray(n - 1.0), n)


def unpaired(
    before: np.ndarray, after: np.ndarray, history_before: np.ndarray, history_after: np.ndarray | None = None
) -> Difference:
    """The difference of two means over days; one value a day.

    The spread between days comes from a side's days and those of its history. history_after as None: both sides are one
    series, so they share the spread.
    """
    n = [side.shape[-1] for side in (before, after)]
    centre = after.mean(axis=-1) - before.mean(axis=-1)
    one_series = history_after is None
    known = [
        _squares(before, history_before),
        _squares(after, before[..., :0] if history_after is None else history_after),
    ]
    if one_series and (freedom := known[0][1] + known[1][1]) >= HISTORY_MIN - 1:
        variance = (known[0][0] + known[1][0]) / freedom
        return Difference(centre, np.sqrt(variance * (1 / n[0] + 1 / n[1])), np.asarray(float(freedom)), min(n))
    if min(n) < UNITS_MIN and (one_series or min(freedom for _, freedom in known) < HISTORY_MIN - 1):
        return _unknown(centre, min(n))
    parts = [squares / freedom / of for (squares, freedom), of in zip(known, n, strict=True)]
    satterthwaite = sum(part**2 / freedom for part, (_, freedom) in zip(parts, known, strict=True))
    variance = parts[0] + parts[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        # Without any spread every number of degrees of freedom gives the same result.
        freedom = np.where(satterthwaite > 0, variance**2 / satterthwaite, 1.0)
    return Difference(centre, np.sqrt(variance), freedom, min(n))


def judge(difference: Difference, p: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """The verdicts: SAME where the interval lies within the margin, else the sign where p is significant."""
    same = np.abs(difference.centre) + difference.reach < math.log1p(margin)
    sign = np.where(difference.centre > 0, SLOWER, FASTER)
    return np.where(same, SAME, np.where(np.asarray(p) < ALPHA, sign, INCONCLUSIVE))


def holm(p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Holm's correction: the chance of even one false difference among all stays below p.

    weights: how the chance is divided among them, by default equally. NaN stays NaN and takes no share.
    """
    weights = np.where(np.isnan(p), 0.0, np.ones(p.shape[-1]) if weights is None else weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        order = np.argsort(p / weights, axis=-1)  # NaN last
        ordered, shares = (np.take_along_axis(each, order, axis=-1) for each in (p, weights))
        left = np.cumsum(shares[..., ::-1], axis=-1)[..., ::-1]
        steps = np.maximum.accumulate(np.minimum(ordered * left / shares, 1.0), axis=-1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, steps, axis=-1)
    return corrected


def _unknown(centre: np.ndarray, units: int) -> Difference:
    return Difference(centre, np.full(np.shape(centre), np.nan), np.asarray(1.0), units)


def _squares(side: np.ndarray, history: np.ndarray) -> tuple[np.ndarray, int]:
    """Squared distances from the mean of each, summed over both, and their degrees of freedom."""
    parts = [each for each in (side, history) if each.shape[-1]]
    squares = sum((each.var(axis=-1) * each.shape[-1] for each in parts), np.zeros(side.shape[:-1]))
    return squares, sum(each.shape[-1] - 1 for each in parts)
