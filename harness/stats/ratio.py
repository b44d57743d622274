"""Is B slower than A? Ratios of block medians with an interval, a verdict, and how many blocks would settle it.

The unit of evidence is the median of a fresh process (or of a whole run), never a repetition: repetitions of one
process share its luck, and a test on them pooled finds a difference between two equal runs more often than not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

FASTER, SLOWER, SAME, UNCLEAR = "FASTER", "SLOWER", "SAME", "UNCLEAR"
CONFIDENCE = 0.95
MARGIN = 0.05  # of a ratio: an interval that lies within 1/1.05 … 1.05 means that nothing changed that matters
MIN_BLOCKS = 3  # a side; with two, Student's t is so wide that only a change of several times the noise is seen
MIN_PAIRS = 3  # of calls in turn, for an interval of their ratio
SETTLED = 0.80  # how often the blocks that are asked for should be enough
BLOCKS_MAX = 1000  # more than so many cannot be meant


@dataclass(frozen=True)
class Difference:
    """Mean of B less mean of A, on logarithms, with its interval; numbers, or arrays of one shape.

    p is two-sided, of no difference. Where a side has a single unit, low, high and p are NaN.
    """

    centre: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


@dataclass(frozen=True)
class Spread:
    """How far unchanged runs lie apart: the SD of the logarithm of a run's value, and its degrees of freedom."""

    sd: np.ndarray | float
    freedom: float


@dataclass(frozen=True)
class Ratio:
    """B's time over A's: above 1 is slower. low, high and p are None where a side has a single unit.

    p is corrected for the number of comparisons. more: how many more units on each side would settle an UNCLEAR; None
    where the verdict is there, or where a thousand would not do. spread: how far runs lie apart, where that was known
    and counted; then `more` counts runs.
    """

    ratio: float
    low: float | None
    high: float | None
    p: float | None
    verdict: str
    n_a: int
    n_b: int
    more: int | None = None
    spread: Spread | None = None


def compare(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], margin: float = MARGIN, spreads: Sequence[Spread | None] = ()
) -> list[Ratio]:
    """One verdict a case, from its block medians in s on both sides; p corrected over all cases (Holm).

    spreads: for each case how far runs lie apart, if each side is a single run and that is known. ValueError where a
    side has no block or a median is not positive.
    """
    logs = [(_logs(a), _logs(b)) for a, b in pairs]
    spreads = spreads or [None] * len(logs)
    differences = [widened(welch(a, b), spread) for (a, b), spread in zip(logs, spreads, strict=True)]
    judged = [i for i, (a, b) in enumerate(logs) if min(len(a), len(b)) >= MIN_BLOCKS]
    p = np.full(len(logs), np.nan)
    p[judged] = holm(np.array([float(differences[i].p) for i in judged]))
    found = []
    for (a, b), difference, corrected, spread in zip(logs, differences, p, spreads, strict=True):
        verdict = str(judge(difference, corrected, margin))
        more = None
        if verdict == UNCLEAR:
            n_cases = max(len(judged), 1)
            more = more_runs(a, b, spread, margin, n_cases) if spread else more_blocks(a, b, margin, n_cases)
        found.append(_ratio(difference, corrected, verdict, len(a), len(b), more, spread))
    return found


def overall(
    groups: Sequence[tuple[np.ndarray, np.ndarray]],
    margin: float = MARGIN,
    spreads: Sequence[Spread | None] = (),
    is_one_hour: bool = False,
) -> Ratio | None:
    """The geometric mean of every case's ratio, each case counting the same.

    groups: for each device the block medians in s, blocks × cases, of A and of B; the cases in the same order, NaN
    where a block lacks one. Blocks that are complete make the interval, since a block's cases share its luck.
    spreads: for each group how far the mean over its cases lies apart from run to run. is_one_hour: each side is a
    single run; where spreads are not known for all groups, only what is surely beyond the margin gets a verdict then:
    a mean over many cases is rid of the blocks' noise, but not of the hour's. None where there is no case.
    """
    n_cases = sum(a.shape[1] for a, _ in groups)
    if not n_cases:
        return None
    centre, variance, satterthwaite, n_a, n_b = 0.0, 0.0, 0.0, 0, 0
    for a, b in groups:
        weight = a.shape[1] / n_cases
        sides = [np.log(side) for side in (a, b)]
        centre += weight * float(np.nanmean(sides[1], axis=0).mean() - np.nanmean(sides[0], axis=0).mean())
        complete = [side[~np.isnan(side).any(axis=1)].mean(axis=1) for side in sides]
        n_a, n_b = n_a + len(complete[0]), n_b + len(complete[1])
        for means in complete:
            if len(means) < MIN_BLOCKS:
                variance = math.nan
            else:
                part = weight**2 * float(means.var(ddof=1)) / len(means)
                variance += part
                satterthwaite += part**2 / (len(means) - 1)
    difference = _student(np.float64(centre), np.float64(variance), np.float64(satterthwaite))
    spread = _combined(spreads, [a.shape[1] / n_cases for a, _ in groups])
    difference = widened(difference, spread)
    verdict = str(judge(difference, difference.p, margin, is_beyond=is_one_hour and spread is None))
    return _ratio(difference, difference.p, verdict, n_a, n_b, None, spread)


def _combined(spreads: Sequence[Spread | None], weights: Sequence[float]) -> Spread | None:
    """The spread of a weighted mean of independent groups; None where that of any group is not known."""
    if not spreads or None in spreads:
        return None
    parts = [(weight * spread.sd) ** 2 for weight, spread in zip(weights, spreads, strict=True)]
    satterthwaite = sum(part**2 / spread.freedom for part, spread in zip(parts, spreads, strict=True))
    return Spread(math.sqrt(sum(parts)), sum(parts) ** 2 / satterthwaite if satterthwaite else spreads[0].freedom)


def widened(difference: Difference, spread: Spread | None) -> Difference:
    """A difference of two single runs that also counts how far runs lie apart: both must agree that it is none.

    The blocks of one run tell its hour only. What two runs of an unchanged series differ by is Student's t of the
    series' own spread, so a verdict that must pass this is wrong no more often than it says, whatever the blocks say.
    """
    if spread is None:
        return difference
    variance = 2 * np.square(spread.sd)
    runs = _student(difference.centre, variance, variance**2 / spread.freedom)
    return Difference(
        difference.centre, np.minimum(difference.low, runs.low), np.maximum(difference.high, runs.high),
        np.maximum(difference.p, runs.p),
    )  # fmt: skip


def welch(a: np.ndarray, b: np.ndarray, confidence: float = CONFIDENCE) -> Difference:
    """Welch's interval for the difference of two means along the last axis; the spreads may differ."""
    parts = [(side.var(axis=-1, ddof=1) / side.shape[-1] if side.shape[-1] > 1 else np.nan) for side in (a, b)]
    freedom = [max(side.shape[-1] - 1, 1) for side in (a, b)]
    satterthwaite = parts[0] ** 2 / freedom[0] + parts[1] ** 2 / freedom[1]
    return _student(b.mean(axis=-1) - a.mean(axis=-1), parts[0] + parts[1], satterthwaite, confidence)


def in_turn(pairs: Sequence[tuple[float, float]]) -> tuple[float, float | None, float | None]:
    """How many times faster the second of each pair is than the first, in s; calls made in turn.

    With its 95 % interval: Student's t on the logarithms of the ratios, since what slows a call slows its neighbour,
    too. None with fewer than MIN_PAIRS: of two, Student's t is 12.7, so that the interval says nothing.
    """
    logs = np.log([before_s / after_s for before_s, after_s in pairs])
    middle = float(logs.mean())
    if len(logs) < MIN_PAIRS:
        return math.exp(middle), None, None
    reach = float(special.stdtrit(len(logs) - 1, 0.5 + CONFIDENCE / 2) * logs.std(ddof=1)) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - reach), math.exp(middle + reach)


def _student(
    centre: np.ndarray, variance: np.ndarray, satterthwaite: np.ndarray, confidence: float = CONFIDENCE
) -> Difference:
    """Student's interval, with Satterthwaite's degrees of freedom: variance² over the sum of its parts'."""
    with np.errstate(invalid="ignore", divide="ignore"):
        # Without any spread every degree of freedom says the same.
        freedom = np.where(satterthwaite > 0, variance**2 / satterthwaite, np.where(variance == 0, 1e6, np.nan))
        reach = special.stdtrit(freedom, 0.5 + confidence / 2) * np.sqrt(variance)
        t = np.where(centre == 0, 0.0, np.abs(centre) / np.sqrt(variance))
    p = 2 * special.stdtr(freedom, -t)
    return Difference(centre, centre - reach, centre + reach, p)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction along the last axis: the chance of even one false difference among all stays below p."""
    n = p.shape[-1]
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, axis=-1) * np.arange(n, 0, -1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(np.maximum.accumulate(steps, axis=-1), 1), axis=-1)
    return corrected


def judge(difference: Difference, p: np.ndarray | float, margin: float = MARGIN, is_beyond: bool = False) -> np.ndarray:
    """The verdicts: SAME where the interval lies within the margin, else the sign if p says there is one.

    is_beyond: a sign takes an interval that lies beyond the margin as a whole.
    """
    bound, alpha = math.log1p(margin), 1 - CONFIDENCE
    least = bound if is_beyond else -math.inf
    p = np.asarray(p)
    same = (difference.low > -bound) & (difference.high < bound) & ~np.isnan(p)
    slower = (p < alpha) & (difference.centre > 0) & (difference.low > least)
    faster = (p < alpha) & (difference.centre < 0) & (difference.high < -least)
    return np.select([same, slower, faster], [SAME, SLOWER, FASTER], UNCLEAR)


def more_blocks(a: np.ndarray, b: np.ndarray, margin: float = MARGIN, n_cases: int = 1) -> int | None:
    """How many more blocks on each side would settle it four times out of five, if all is as it seems.

    a, b: logarithms of block medians. With one block the spread is unknown: then as many as a verdict needs.
    """
    lacking = MIN_BLOCKS - min(len(a), len(b))
    if min(len(a), len(b)) < 2:
        return lacking
    sides = [(side.var(ddof=1), len(side)) for side in (a, b)]
    return _more(abs(float(b.mean() - a.mean())), sides, margin, n_cases)


def more_runs(a: np.ndarray, b: np.ndarray, spread: Spread, margin: float = MARGIN, n_cases: int = 1) -> int | None:
    """As more_blocks, but how many runs beside the one that each side is."""
    return _more(abs(float(b.mean() - a.mean())), [(float(spread.sd) ** 2, 1)] * 2, margin, n_cases)


def _more(shift: float, sides: Sequence[tuple[float, int]], margin: float, n_cases: int) -> int | None:
    """sides: for each the variance of one unit, and how many there are."""
    more = np.arange(max(1, MIN_BLOCKS - min(n for _, n in sides)), BLOCKS_MAX + 1)
    parts = [variance / (n + more) for variance, n in sides]
    error = np.sqrt(parts[0] + parts[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = (parts[0] + parts[1]) ** 2 / sum(
            part**2 / (n + more - 1) for part, (_, n) in zip(parts, sides, strict=True)
        )
    freedom = np.where(np.isnan(freedom), 1e6, freedom)
    alpha = 1 - CONFIDENCE
    luck = special.stdtrit(freedom, SETTLED) * error
    differs = shift > special.stdtrit(freedom, 1 - alpha / 2 / n_cases) * error + luck
    same = shift + special.stdtrit(freedom, 1 - alpha / 2) * error + luck < math.log1p(margin)
    enough = np.flatnonzero(differs | same)
    return int(more[enough[0]]) if len(enough) else None


def _logs(medians_s: np.ndarray) -> np.ndarray:
    values = np.asarray(medians_s, float)
    if not len(values) or not (values > 0).all():
        raise ValueError("each side needs block medians, all of them positive")
    return np.log(values)


def _ratio(
    difference: Difference, p: float, verdict: str, n_a: int, n_b: int, more: int | None, spread: Spread | None
) -> Ratio:
    low, high = (None if np.isnan(bound) else math.exp(bound) for bound in (difference.low, difference.high))
    p = None if np.isnan(p) else float(p)
    return Ratio(math.exp(difference.centre), low, high, p, verdict, n_a, n_b, more, spread)
