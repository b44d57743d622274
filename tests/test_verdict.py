"""Which runs are evidence: a generator of histories, and what each says of the same change."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from harness.stats import verdict
from harness.stats.difference import FASTER, INCONCLUSIVE, SAME, SLOWER
from harness.stats.verdict import DAYS, PROCESS_PAIRS, RUN_PAIRS, Case, Run

LUCK = (0.0, 0.01, -0.008, 0.004, -0.011, 0.006, 0.002, -0.004, 0.009, -0.007, 0.003, -0.002)  # of processes and days
MINUTES = 1 / 24 / 6


def run(day: float, level: float = 1.0, processes: int = 3, name: str = "") -> Run:
    return Run(name or f"{day:.4f}", day, tuple(level * math.exp(LUCK[i]) for i in range(processes)))


def nights(first: int, n: int, level: float = 1.0, spread: float = 1.0) -> list[Run]:
    return [run(first + i, level * math.exp(spread * LUCK[i % len(LUCK)])) for i in range(n)]


def judged(before: Sequence[Run], after: Sequence[Run], *histories: Sequence[Run], margin: float = 0.05):
    [found], mean = verdict.verdicts([Case(before, after, *histories)], margin)
    assert mean is None
    return found


@pytest.mark.parametrize("processes", [1, 3, 12])
@pytest.mark.parametrize("factor", [1.0, 1.25, 0.5, 10.0])
def test_one_run_against_one_says_no_more_than_its_estimate(processes: int, factor: float) -> None:
    """However many processes: they share the hour."""
    found = judged([run(1, 1, processes)], [run(2, factor, processes)])
    assert found.verdict == INCONCLUSIVE
    assert found.ratio == pytest.approx(factor)
    assert (found.low, found.high, found.p, found.more) == (None,) * 4


@pytest.mark.parametrize(("factor", "word"), [(1.3, SLOWER), (0.7, FASTER), (1.0, SAME)])
def test_a_history_of_ten_days_tells_what_a_day_is(factor: float, word: str) -> None:
    before, after = [run(20)], [run(21, factor)]
    assert judged(before, after, nights(0, 9)).verdict == INCONCLUSIVE
    found = judged(before, after, nights(0, 10))
    assert (found.verdict, found.unit, found.n_before, found.is_bound) == (word, DAYS, 1, False)
    spread = np.log([np.exp(np.log(night.medians_s).mean()) for night in nights(0, 10)]).std(ddof=1)
    assert found.spread == pytest.approx(spread)


def test_days_that_lie_apart_make_a_change_doubtful() -> None:
    assert judged([run(20)], [run(21, 1.2)], nights(0, 10, spread=8)).verdict == INCONCLUSIVE
    assert judged(nights(30, 5), nights(40, 5, 1.2), nights(0, 10, spread=8)).spread > 0.04


def test_a_history_of_one_afternoon_is_one_day() -> None:
    afternoon = [run(5 + i * MINUTES, math.exp(LUCK[i])) for i in range(12)]
    assert judged([run(20)], [run(21, 1.3)], afternoon).verdict == INCONCLUSIVE


def test_what_shares_the_day_with_a_side_is_no_history() -> None:
    same_day = [run(20 + i * MINUTES) for i in range(1, 9)]
    found = judged([run(20)], [run(21, 1.3)], [*nights(0, 10), *same_day])
    assert found.spread == judged([run(20)], [run(21, 1.3)], nights(0, 10)).spread


def test_several_runs_of_a_day_count_once() -> None:
    before, after = ([run(day + i * MINUTES, level) for i in range(5)] for day, level in ((20, 1.0), (21, 1.3)))
    assert judged(before, after).verdict == INCONCLUSIVE
    found = judged(before, after, nights(0, 10))
    assert (found.n_before, found.is_bound) == (1, True)
    one = judged(before[:1], after[:1], nights(0, 10))
    assert (found.high / found.ratio, one.is_bound) == (pytest.approx(one.high / one.ratio), False)


def test_runs_a_few_minutes_apart_are_one_day_whatever_the_calendar_says() -> None:
    before, after = ([run(day + i * MINUTES, level) for i in range(6)] for day, level in ((0.98, 1.0), (1.03, 1.3)))
    assert judged(before, after).verdict == INCONCLUSIVE


@pytest.mark.parametrize("order", ["ABABAB", "ABBABA", "ABBAAB"])
def test_interleaved_runs_of_one_day_are_pairs(order: str) -> None:
    runs = [
        (side, run(5 + i * MINUTES, (1.3 if side == "B" else 1) * math.exp(LUCK[i]))) for i, side in enumerate(order)
    ]
    before, after = ([each for side, each in runs if side == which] for which in "AB")
    found = judged(before, after)
    assert (found.verdict, found.unit, found.n_before) == (SLOWER, RUN_PAIRS, 3)


@pytest.mark.parametrize("order", ["AAABBB", "AB", "AABB", "ABA"])
def test_runs_in_a_row_are_no_pairs(order: str) -> None:
    runs = [(side, run(5 + i * MINUTES, 1.3 if side == "B" else 1)) for i, side in enumerate(order)]
    found = judged(*([each for side, each in runs if side == which] for which in "AB"))
    assert (found.verdict, found.unit) == (INCONCLUSIVE, DAYS)


def test_a_pair_a_night_takes_the_night_out() -> None:
    """Nights differ by ten times what a change makes."""
    level = [math.exp(20 * luck) for luck in LUCK[:6]]
    before = [run(i, level[i]) for i in range(6)]
    after = [run(i + MINUTES, 1.1 * level[i] * math.exp(LUCK[-i] / 4)) for i in range(6)]
    assert judged(before, after).verdict == SLOWER
    later = [run(each.begin_days + 10, each.medians_s[0]) for each in after]
    assert judged(before, later).verdict == INCONCLUSIVE


def test_two_variants_of_one_run_are_compared_process_by_process() -> None:
    before, after = run(1, processes=5), run(1, 1.1, processes=5)
    found = judged([before], [after])
    assert (found.verdict, found.unit, found.n_before) == (SLOWER, PROCESS_PAIRS, 5)
    assert judged([run(1, processes=2)], [run(1, 1.1, processes=2)]).verdict == INCONCLUSIVE
    both = [run(day, processes=1) for day in range(4)], [run(day, 1.1, processes=1) for day in range(4)]
    assert (judged(*both).verdict, judged(*both).unit) == (SLOWER, RUN_PAIRS)


def test_a_history_of_more_processes_is_no_quieter() -> None:
    """Single processes are judged by single processes."""
    many = [Run(str(day), day, (math.exp(9 * LUCK[day]), 1.0, 1.0, 1.0, 1.0, 1.0)) for day in range(10)]
    first = [Run(each.name, each.begin_days, each.medians_s[:1]) for each in many]
    found = [judged([run(20, processes=1)], [run(21, processes=1)], history).spread for history in (many, first)]
    assert found[0] == pytest.approx(found[1])


def test_two_machines_have_a_history_each() -> None:
    sides = [run(20, name="desk 1")], [run(20.01, 1.3, name="mac 1")]
    assert judged(*sides, nights(0, 12), nights(0, 9)).verdict == INCONCLUSIVE
    assert judged(*sides, nights(0, 12), nights(0, 12, 1.3)).verdict == SLOWER


def test_more_days_settle_it() -> None:
    found = judged(nights(20, 3), nights(30, 3, 1.03, 2))
    assert found.verdict == INCONCLUSIVE
    n = 3 + found.more
    assert judged(nights(20, n), nights(40, n, 1.03, 2)).verdict in (SLOWER, SAME)


def test_the_mean_counts_every_case_the_same_and_takes_runs_that_have_them_all() -> None:
    pairs = [Case(nights(20, 5), nights(30, 5, factor), nights(0, 10)) for factor in (1.1, 1.3)]
    _, mean = verdict.verdicts(pairs)
    assert mean.ratio == pytest.approx(math.sqrt(1.1 * 1.3))
    assert (mean.verdict, mean.n_before) == (SLOWER, 5)
    lacking = Case(nights(20, 5)[:4], nights(30, 5), nights(0, 10))
    assert verdict.verdicts([pairs[0], lacking])[1].n_before == 4
    apart = Case(nights(50, 5), nights(60, 5), nights(0, 10))
    assert verdict.verdicts([pairs[0], apart])[1] is None


def test_cases_that_share_their_luck_are_no_more_evidence_than_one() -> None:
    case = Case(nights(20, 5), nights(30, 5, 1.1), nights(0, 10))
    _, two = verdict.verdicts([case] * 2)
    _, ten = verdict.verdicts([case] * 10)
    assert (two.low, two.high) == pytest.approx((ten.low, ten.high))


def test_many_cases_make_each_one_harder_to_believe() -> None:
    doubtful = Case(nights(20, 5), nights(30, 5, 1.012, 2), nights(0, 10))
    others = [Case(nights(20, 5), nights(30, 5), nights(0, 10))] * 40
    alone, _ = verdict.verdicts([doubtful], margin=0.001)
    among, _ = verdict.verdicts([doubtful, *others], margin=0.001)
    assert among[0].p == pytest.approx(min(alone[0].p * 82, 1), rel=0.2)  # half of the chance goes to the mean


@pytest.mark.parametrize("medians_s", [(), (0.0,), (-1.0, 1.0), (math.nan,)])
def test_what_is_no_median_is_refused(medians_s: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="positive"):
        judged([Run("a", 1, medians_s)], [run(2)])


def test_a_side_without_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a run"):
        judged([], [run(2)])
