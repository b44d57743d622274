"""The verdict whether B changed against A, from runs that are independent of one another.

Processes of one run share its hour and runs of one day share the day, so a day counts once. Single runs are judged by
the variation between runs of other days; without that only interleaved runs or several days a side give a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats import difference, special
from harness.stats.difference import INCONCLUSIVE, MARGIN, UNITS_MIN, Difference

DAYS, RUN_PAIRS, PROCESS_PAIRS = "days", "pairs of runs", "pairs of processes"

DAY = 0.5  # runs that begin within this many days of the first one count as one day
SETTLED = 0.80  # the chance that `more` units are enough
MORE_MAX = 1000


@dataclass(frozen=True)
class Run:
    """One run of one case. name: unique to the run and its machine; begin_days: its start, in days.

    medians_s: the median duration in s of each of its processes.
    """

    name: str
    begin_days: float
    medians_s: tuple[float, ...]


@dataclass(frozen=True)
class Case:
    """One case of a comparison: the runs before and after.

    history_before, history_after: other runs of each side's series; None as history_after: both sides are one series.
    A run that is on both sides shares its hour; its processes are pairs, in their order.
    """

    before: Sequence[Run]
    after: Sequence[Run]
    history_before: Sequence[Run] = ()
    history_after: Sequence[Run] | None = None


@dataclass(frozen=True)
class Verdict:
    """The time after over the time before: above 1 is slower.

    low, high, p: None without independent evidence. is_bound: whether the interval contains the true ratio in at least
    95 %, not in about 95 %. p: of no change, corrected for all cases and their mean. unit: the kind of independent
    evidence; n_before, n_after: its numbers. spread: the SD of a unit's logarithm. more: the number of further units a
    side that would settle an INCONCLUSIVE four times out of five; None where there is a verdict, where the spread is
    unknown, or where a thousand would not do.
    """

    ratio: float
    low: float | None
    high: float | None
    p: float | None
    verdict: str
    unit: str
    n_before: int
    n_after: int
    is_bound: bool = False
    spread: float | None = None
    more: int | None = None


@dataclass(frozen=True)
class _Evidence:
    """The evidence from the runs of a case; the fields are those of Verdict."""

    difference: Difference
    unit: str
    n: tuple[int, int]
    is_bound: bool = False


def verdicts(cases: Sequence[Case], margin: float = MARGIN) -> tuple[list[Verdict], Verdict | None]:
    """One verdict a case, and one of the geometric mean over all cases, each counting the same.

    The chance of any wrong FASTER or SLOWER among them is at most 5 %: half of it goes to the mean, half to the cases.
    The mean is None with fewer than two cases, and where no run of a side has them all. ValueError where a side has no
    run, or a median is not positive.
    """
    found = [_evidence(case) for case in cases]
    weights = [1 / len(cases)] * len(cases)
    mean = _mean(cases) if len(cases) > 1 else None
    if mean and mean.before and mean.after:
        found.append(_evidence(mean))
        weights.append(1.0)
    p = difference.holm(np.array([float(each.difference.p) for each in found]), np.array(weights))
    judged = [_verdict(each, corrected, margin, len(found)) for each, corrected in zip(found, p, strict=True)]
    return judged[: len(cases)], judged[-1] if len(judged) > len(cases) else None


def _evidence(case: Case) -> _Evidence:
    if not case.before or not case.after:
        raise ValueError("each side needs a run")
    own = (*case.before, *case.after)
    k = min(len(run.medians_s) for run in own)
    if both := _both(case):
        if len(both) >= UNITS_MIN:
            return _of_pairs([_log(after, k) - _log(before, k) for before, after in both], RUN_PAIRS)
        return _of_pairs(
            np.concatenate([_logs(after)[:k] - _logs(before)[:k] for before, after in both]), PROCESS_PAIRS
        )
    if len(pairs := _interleaved(case)) >= UNITS_MIN:
        return _of_pairs([_log(after, k) - _log(before, k) for before, after in pairs], RUN_PAIRS)
    days = [_days(side) for side in (case.before, case.after)]
    values = [np.array([np.mean([_log(run, k) for run in day]) for day in side]) for side in days]
    # Runs that share a day with the sides are no evidence about other days.
    begins = np.array([run.begin_days for run in own])
    histories = [
        None if runs is None
        else np.array([_log(day[0], k) for day in _days(runs) if (np.abs(begins - day[0].begin_days) >= DAY).all()])
        for runs in (case.history_before, case.history_after)
    ]  # fmt: skip
    n = len(days[0]), len(days[1])
    is_bound = len(own) > sum(n) or len(_days(own)) < sum(n)
    return _Evidence(difference.unpaired(*values, *histories), DAYS, n, is_bound)


def _of_pairs(differences: Sequence[float] | np.ndarray, unit: str) -> _Evidence:
    return _Evidence(difference.paired(np.asarray(differences)), unit, (len(differences), len(differences)))


def _both(case: Case) -> list[tuple[Run, Run]]:
    """The runs that are on both sides; before, after."""
    before = {run.name: run for run in case.before}
    return [(before[run.name], run) for run in case.after if run.name in before]


def _interleaved(case: Case) -> list[tuple[Run, Run]]:
    """Runs of the two sides that follow one another on the same day, each in one pair; before, after."""
    runs = sorted(((run, side) for side in (0, 1) for run in (case.before, case.after)[side]), key=_begin)
    pairs, i = [], 0
    while i + 1 < len(runs):
        (run, side), (other, other_side) = runs[i : i + 2]
        if side != other_side and other.begin_days - run.begin_days < DAY:
            pairs.append((run, other) if side == 0 else (other, run))
            i += 1
        i += 1
    return pairs


def _begin(each: tuple[Run, int]) -> float:
    return each[0].begin_days


def _days(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each day, first to last."""
    days: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: run.begin_days):
        if days and run.begin_days - days[-1][0].begin_days < DAY:
            days[-1].append(run)
        else:
            days.append([run])
    return days


def _logs(run: Run) -> np.ndarray:
    values = np.array(run.medians_s)
    if not len(values) or not (values > 0).all():
        raise ValueError("a run needs the medians of its processes, all of them positive")
    return np.log(values)


def _log(run: Run, k: int) -> float:
    """A run's value from at most k processes, so that runs with more of them do not vary less than those compared."""
    return float(_logs(run)[:k].mean())


def _mean(cases: Sequence[Case]) -> Case:
    """The runs that have every case, each process with its geometric mean over the cases."""

    def side(of_cases: Sequence[Sequence[Run]]) -> list[Run]:
        by_name = [{run.name: run for run in runs} for runs in of_cases]
        complete = [[runs[name] for runs in by_name] for name in by_name[0] if all(name in runs for runs in by_name)]
        return [Run(runs[0].name, runs[0].begin_days, _geometric(runs)) for runs in complete]

    after = [case.history_after for case in cases if case.history_after is not None]
    return Case(
        side([case.before for case in cases]), side([case.after for case in cases]),
        side([case.history_before for case in cases]), side(after) if len(after) == len(cases) else None,
    )  # fmt: skip


def _geometric(runs: Sequence[Run]) -> tuple[float, ...]:
    k = min(len(run.medians_s) for run in runs)
    return tuple(np.exp(np.mean([_logs(run)[:k] for run in runs], axis=0)))


def _verdict(found: _Evidence, p: float, margin: float, n_hypotheses: int) -> Verdict:
    each = found.difference
    verdict = str(difference.judge(each, np.asarray(p), margin))
    ratio = math.exp(each.centre)
    if np.isnan(each.error):
        return Verdict(ratio, None, None, None, verdict, found.unit, *found.n)
    of = 1 / found.n[0] + 1 / found.n[1] if found.unit == DAYS else 1 / found.n[0]
    spread = float(each.error) / math.sqrt(of)
    more = _more(found, spread, margin, n_hypotheses) if verdict == INCONCLUSIVE else None
    low, high = difference.ends(float(each.centre), float(each.reach))
    return Verdict(ratio, low, high, float(p), verdict, found.unit, *found.n, found.is_bound, spread, more)


def _more(found: _Evidence, spread: float, margin: float, n_hypotheses: int) -> int | None:
    """The number of further units a side that settle it, if centre and spread are right."""
    more = np.arange(1, MORE_MAX + 1)
    before, after = (of + more for of in found.n)
    is_days = found.unit == DAYS
    error = spread * np.sqrt(1 / before + 1 / after if is_days else 1 / before)
    freedom = found.difference.freedom + (2 * more if is_days else more)
    shift, luck = abs(float(found.difference.centre)), special.stdtrit(freedom, SETTLED) * error
    tail = np.minimum(freedom, difference.TAIL_FREEDOM * np.minimum(before, after))
    differs = shift > special.stdtrit(tail, 1 - difference.ALPHA / 2 / n_hypotheses) * error + luck
    same = shift + special.stdtrit(freedom, difference.QUANTILE) * error + luck < math.log1p(margin)
    enough = np.flatnonzero(differs | same)
    return int(more[enough[0]]) if len(enough) else None
