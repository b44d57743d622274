"""Two sides in interleaved fresh processes, judged after every pair: same, different, or one more pair.

The first of a pair's two processes is drawn at random. So where the sides are the same, each difference has either sign
with equal chance, whatever the noise is and whatever the machine did before. A bet on one sign multiplies its stake by
exp(λx) / cosh(λx), whose mean over both signs is 1. It exceeds 1 / α with a chance of at most α, for any number of
looks (Ville's inequality). A change multiplies every time of a side; bets against other ratios give the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats import special
from harness.stats.difference import FASTER, INCONCLUSIVE, MARGIN, SAME, SLOWER

ALPHA = 0.05
BETS = np.geomspace(0.2, 1.0, 8)  # λ, in units of 1 / log(1 + margin); each gets an equal share of the stake
STEPS = 60  # of the bisection for an end of the interval


@dataclass(frozen=True)
class Decision:
    """The verdict of the pairs so far.

    ratio: the time after over the time before, of all n pairs; above 1 is slower. low, high: contain the true ratio in
    at least 95 %, for any number of looks; None where there is no bound yet. verdict: FASTER or SLOWER where the
    interval excludes 1; SAME where both ends of the margin are excluded, each with a chance of 5 % to be wrong;
    INCONCLUSIVE requires more pairs. p: of no change, for any number of looks.
    """

    verdict: str
    ratio: float
    low: float | None
    high: float | None
    p: float
    n: int


def look(pairs: Sequence[tuple[float, float]], margin: float = MARGIN, n_cases: int = 1) -> Decision:
    """Judge pairs of process medians in s, before and after, in the order measured; ValueError where there is none.

    n_cases: how many cases (and means of cases) the same processes measure. Their chance of any wrong verdict is 5 %.
    """
    if not len(pairs):
        raise ValueError("a decision takes a pair")
    logs = np.log([after / before for before, after in pairs])
    differs = threshold(2 * n_cases)
    low, high = _low(logs, margin, differs), -_low(-logs, margin, differs)
    bound = math.log1p(margin)
    verdict = INCONCLUSIVE
    if min(evidence(bound + sign * logs, margin)[-1] for sign in (-1, 1)) >= threshold(n_cases):
        verdict = SAME
    elif low > 0 or high < 0:
        verdict = SLOWER if low > 0 else FASTER
    p = min(2 * n_cases * math.exp(-max(evidence(sign * logs, margin)[-1] for sign in (-1, 1))), 1.0)
    ends = [None if math.isinf(end) else math.exp(end) for end in (low, high)]
    return Decision(verdict, math.exp(logs.mean()), ends[0], ends[1], p, len(logs))


def evidence(differences: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """The logarithm of the stake of bets that differences are positive, after each of them; along the last axis."""
    x = differences[..., None] * BETS / math.log1p(margin)
    log_cosh = np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - math.log(2)
    return special.logsumexp(np.cumsum(x - log_cosh, axis=-2), axis=-1) - math.log(len(BETS))


def threshold(n_bets: int) -> float:
    """The evidence that excludes a value, where n_bets share the chance to be wrong."""
    return math.log(n_bets / ALPHA)


def _low(logs: np.ndarray, margin: float, least: float) -> float:
    """The largest shift below which all shifts are excluded; −inf where none is. Evidence falls with the shift."""

    def excluded(shift: float) -> bool:
        return bool(evidence(logs - shift, margin)[-1] >= least)

    low, high = float(logs.min()) - 100 * math.log1p(margin), float(logs.max())
    if not excluded(low):
        return -math.inf
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if excluded(middle) else (low, middle)
    return low
