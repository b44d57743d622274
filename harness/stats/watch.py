"""Judge whether a run is unusual for its series: prediction intervals, suspicion, confirmation, reset.

A time that is outside the baseline again in the same night can still be that night's heat or load, so it takes another
night to confirm it. A run within the baseline dismisses it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from harness.stats import special
from harness.stats.levels import AGREEMENTS

T = TypeVar("T")

DAY = 0.5  # runs that begin within this many days of one another share their night
LEARNING, USUAL, SUSPECT, DISMISSED, ALARM, NOISY = "learning", "usual", "suspect", "dismissed", "alarm", "noisy"

# The words for the agreement of masks with the reference, worst first (harness.measure.agreement).


@dataclass(frozen=True)
class Rule:
    """The conditions of an unusual number: outside the one-sided prediction interval, and by at least `floor`."""

    confidence: float = 0.999  # a run of an unchanged series is outside, on one side, one time in a thousand
    confirming: float = 0.99  # the same of a run that confirms a suspicion or continues an alarm
    floor: float = 0.05  # a smaller change is never an alarm, however small the noise of the series
    learning: int = 5  # runs before anything is judged
    baseline: int = 30  # runs of the baseline: the first ones after its start, so that drift shows
    noisy: float = 0.10  # a baseline that spreads more than this (SD of logarithms) is listed, never alarmed


RULE = Rule()


@dataclass(frozen=True)
class Band:
    """The expected range of the next value: between centre − reach and centre + reach; all on logarithms.

    confirming: the reach for a value that follows a suspect one.
    """

    n: int
    centre: np.ndarray
    reach: np.ndarray
    confirming: np.ndarray
    sd: np.ndarray

    @property
    def low(self) -> float:
        """Smallest value within the baseline, in the units of the data."""
        return float(np.exp(self.centre - self.reach))

    @property
    def high(self) -> float:
        """Largest value within the baseline, in the units of the data."""
        return float(np.exp(self.centre + self.reach))

    @property
    def middle(self) -> float:
        """Geometric mean of the baseline, in the units of the data."""
        return float(np.exp(self.centre))


@dataclass(frozen=True)
class Judgement:
    """The judgement of one run of a series.

    state: learning, usual, suspect (outside, not yet confirmed), dismissed (was suspect, a later run was not), alarm
    (outside on two successive nights), noisy. direction: 1 above, -1 below, 0 neither. began: the index of the first
    run of this suspicion or alarm.
    """

    state: str
    direction: int = 0
    band: Band | None = None
    began: int | None = None


@dataclass(frozen=True)
class Masks:
    """The masks of one run of a case: the hashes that occurred and the numbers of cells."""

    hashes: frozenset[str] = field(default_factory=frozenset)
    fewest: int = 0
    most: int = 0


def band(history: np.ndarray, rule: Rule = RULE) -> Band:
    """The prediction interval for one more value, no narrower than the floor; logarithms along the last axis."""
    n = history.shape[-1]
    sd = history.std(axis=-1, ddof=1)
    return Band(n, history.mean(axis=-1), *reaches(sd, n, rule), sd)


def reaches(sd: np.ndarray, n: int | np.ndarray, rule: Rule = RULE) -> tuple[np.ndarray, np.ndarray]:
    """Half the widths of the bands of n values with this standard deviation: to be suspect, and to confirm it."""
    of = sd * np.sqrt(1 + 1 / n)
    suspect, confirming = (special.stdtrit(n - 1, each) * of for each in (rule.confidence, rule.confirming))
    return np.maximum(suspect, np.log1p(rule.floor)), np.maximum(confirming, np.log1p(rule.floor))


def beyond(expected: Band, value: np.ndarray, before: np.ndarray | int = 0) -> np.ndarray:
    """1 where a logarithm lies above the band, -1 below, 0 within; before: the same of the run before, if suspect."""
    away = value - expected.centre
    reach = np.where(np.sign(away) == before, expected.confirming, expected.reach)
    return np.where(np.abs(away) > reach, np.sign(away), 0).astype(int)


def numbers(
    values: Sequence[float], resets: Collection[int] = (), rule: Rule = RULE, begins: Sequence[float] | None = None
) -> list[Judgement]:
    """Judge each run of a series of positive numbers (times, bytes) by the runs before it; the rest as in `follow`."""

    def look(baseline: list[float], value: float, before: int) -> Judgement:
        if len(baseline) < rule.learning:
            return Judgement(LEARNING)
        expected = band(np.array(baseline), rule)
        if expected.sd > rule.noisy:
            return Judgement(NOISY, band=expected)
        direction = int(beyond(expected, np.asarray(value), before))
        return Judgement(SUSPECT if direction else USUAL, direction, expected)

    return follow([float(np.log(value)) for value in values], resets, look, rule.baseline, begins)


def usual(values: Sequence[float], resets: Collection[int] = (), begins: Sequence[float] | None = None) -> list[int]:
    """The runs since the last reset that are neither suspect nor in alarm: the values of the unchanged series."""
    judged = numbers(values, resets, begins=begins)
    return [i for i in range(max(resets, default=0), len(judged)) if judged[i].state not in (SUSPECT, ALARM)]


def masks(found: Sequence[Masks], resets: Collection[int] = ()) -> list[Judgement]:
    """Judge the masks of each run: a new hash, or, where hashes vary anyway, a new number of cells.

    The tolerance of the count is that of `equivalent`: 0.5 % or one cell.
    """

    def look(baseline: list[Masks], now: Masks, _: int) -> Judgement:
        if not baseline:
            return Judgement(LEARNING)
        known = frozenset().union(*(before.hashes for before in baseline))
        if len(known) == 1:
            return Judgement(SUSPECT, 1) if now.hashes - known else Judgement(USUAL)
        fewest, most = min(before.fewest for before in baseline), max(before.most for before in baseline)
        tolerance = max(1, 0.005 * most)
        if now.most > most + tolerance:
            return Judgement(SUSPECT, 1)
        return Judgement(SUSPECT, -1) if now.fewest < fewest - tolerance else Judgement(USUAL)

    return follow(found, resets, look, RULE.baseline)


def agreements(words: Sequence[str], resets: Collection[int] = ()) -> list[Judgement]:
    """Judge the agreement with the reference masks: worse than ever before is below, better is above."""

    def look(baseline: list[int], now: int, _: int) -> Judgement:
        if not baseline:
            return Judgement(LEARNING)
        direction = (now > max(baseline)) - (now < min(baseline))
        return Judgement(SUSPECT if direction else USUAL, direction)

    return follow([AGREEMENTS.index(word) for word in words], resets, look, RULE.baseline)


def follow(
    values: Sequence[T],
    resets: Collection[int],
    look: Callable[[list[Any], T, int], Judgement],
    n_baseline: int,
    begins: Sequence[float] | None = None,
) -> list[Judgement]:
    """Judge a series: a value outside is suspect, a second one on the same side in another night is an alarm.

    look: judges a value by its baseline and the direction of the run before. resets: indices at which a new baseline
    starts. begins: the start of each run, in days; by default each is a night. A value that was suspect and then
    dismissed was noise, and belongs to the baseline like any other: without it the series would seem to vary less than
    it does; its night counts once. An alarm's values do not: the series stays in alarm until it comes back or the
    change is accepted.
    """
    nights = range(len(values)) if begins is None else begins
    baseline: list[T] = []
    judged: list[Judgement] = []
    for i, value in enumerate(values):
        before = judged[-1] if judged else None
        if i in resets:
            baseline, before = [], None
        now = look(baseline, value, before.direction if before is not None else 0)
        began = before.began if before is not None and before.direction == now.direction else None
        if before is not None and before.state == SUSPECT and began is None:
            first = before.began or 0
            judged[first:] = [replace(each, state=DISMISSED) for each in judged[first:]]
            baseline.append(values[first])
        if now.state != SUSPECT:
            baseline.append(value)
        elif before is None or began is None:
            now = replace(now, began=i)
        else:
            is_confirmed = before.state == ALARM or nights[i] - nights[began] >= DAY
            now = replace(now, state=ALARM if is_confirmed else SUSPECT, began=began)
        del baseline[n_baseline:]
        judged.append(now)
    return judged
