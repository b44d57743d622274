import math

import numpy as np
import pytest
from scipy import stats

from harness.stats import ratio
from harness.stats.ratio import FASTER, SAME, SLOWER, UNCLEAR, Spread

A = np.array([1.00, 1.02, 0.99, 1.01, 1.00])


def test_the_interval_is_welchs_on_logarithms() -> None:
    b = np.array([1.10, 1.13, 1.08, 1.12])
    [found] = ratio.compare([(A, b)])
    known = stats.ttest_ind(np.log(b), np.log(A), equal_var=False)
    low, high = known.confidence_interval()
    assert [found.low, found.high] == pytest.approx([math.exp(low), math.exp(high)])
    assert found.p == pytest.approx(known.pvalue)
    assert found.ratio == pytest.approx(math.exp(np.log(b).mean() - np.log(A).mean()))


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.2, SLOWER), (0.8, FASTER), (1.0, SAME), (1.005, SAME), (1.08, SLOWER), (0.92, FASTER)]
)
def test_verdicts(factor: float, verdict: str) -> None:
    [found] = ratio.compare([(A, factor * A[::-1])])
    assert found.verdict == verdict


def test_a_wide_interval_is_unclear_and_says_how_many_blocks_would_do() -> None:
    noisy = np.array([1.0, 1.2, 0.85, 1.1])
    [found] = ratio.compare([(noisy, 1.06 * noisy[::-1])])
    assert found.verdict == UNCLEAR
    assert found.more > 50  # a spread of 15 % takes many to see 6 %


@pytest.mark.parametrize("n", [1, 2])
def test_never_a_verdict_from_fewer_than_three_blocks(n: int) -> None:
    [found] = ratio.compare([(A[:n], 3 * A[:n])])
    assert (found.verdict, found.p) == (UNCLEAR, None)
    assert found.more == 3 - n
    assert found.ratio == pytest.approx(3)
    assert (found.low is None) == (n == 1)


def test_the_margin_decides_what_is_the_same() -> None:
    b = 1.03 * A[::-1]
    assert [ratio.compare([(A, b)], margin)[0].verdict for margin in (0.05, 0.02)] == [SAME, SLOWER]


def test_holms_correction_by_hand() -> None:
    # Sorted: .01 × 3, .02 × 2, .04 × 1, never falling.
    assert ratio.holm(np.array([0.04, 0.01, 0.02])) == pytest.approx([0.04, 0.03, 0.04])
    assert ratio.holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])


def test_many_cases_make_each_one_harder_to_believe() -> None:
    b = np.array([1.03, 1.09, 1.02, 1.08, 1.05])
    assert ratio.compare([(A, b)], margin=0.01)[0].verdict == SLOWER
    others = [(A, A[::-1])] * 40
    assert ratio.compare([(A, b), *others], margin=0.01)[0].verdict == UNCLEAR


def test_blocks_without_any_spread() -> None:
    same, twice = np.full(3, 1.0), np.full(3, 2.0)
    assert [found.verdict for found in ratio.compare([(same, same), (same, twice)])] == [SAME, SLOWER]


def test_what_is_no_median_is_refused() -> None:
    for bad in ([], [0.0, 1.0], [math.nan]):
        with pytest.raises(ValueError, match="positive"):
            ratio.compare([(A, np.array(bad))])


def test_two_single_runs_must_also_differ_by_more_than_runs_do_anyway() -> None:
    """Runs that spread by 4 % differ by 4 √2 %; the interval is Student's t of that many runs, here 8."""
    b = 1.1 * A
    [alone], [counted] = ratio.compare([(A, b)]), ratio.compare([(A, b)], spreads=[Spread(0.04, 7)])
    assert (alone.verdict, counted.verdict) == (SLOWER, UNCLEAR)
    assert counted.high == pytest.approx(1.1 * math.exp(stats.t.ppf(0.975, 7) * 0.04 * math.sqrt(2)))
    assert counted.p == pytest.approx(2 * stats.t.sf(math.log(1.1) / (0.04 * math.sqrt(2)), 7))
    assert (alone.more, counted.more) == (None, 3)
    assert ratio.compare([(A, 1.5 * A)], spreads=[Spread(0.04, 7)])[0].verdict == SLOWER
    # Runs that lie closer together than blocks do make nothing more certain.
    assert ratio.compare([(A, b)], spreads=[Spread(0.0001, 7)])[0].p == alone.p


def test_the_mean_of_one_hour_a_side_must_lie_beyond_the_margin() -> None:
    a = A[:, None] * np.ones(10)
    assert [ratio.overall([(a, x * a)]).verdict for x in (1.0, 1.06, 0.94)] == [SAME, SLOWER, FASTER]
    hour = [ratio.overall([(a, x * a)], is_one_hour=True).verdict for x in (1.0, 1.06, 0.94, 1.2, 0.8)]
    assert hour == [SAME, UNCLEAR, UNCLEAR, SLOWER, FASTER]
    known = ratio.overall([(a, 1.06 * a)], spreads=[Spread(0.005, 9)], is_one_hour=True)
    assert (known.verdict, known.spread.sd) == (SLOWER, pytest.approx(0.005))


def test_groups_that_are_independent_add_their_spreads() -> None:
    a = A[:, None]
    found = ratio.overall([(a, a), (a, a), (a, a), (a, a)], spreads=[Spread(0.02, 5)] * 4)
    assert (found.spread.sd, found.spread.freedom) == pytest.approx((0.01, 20))
    assert ratio.overall([(a, a), (a, a)], spreads=[Spread(0.02, 5), None]).spread is None


def test_the_overall_mean_counts_each_case_the_same() -> None:
    a = np.array([[1.0, 10.0], [1.01, 10.1], [0.99, 9.9]])
    found = ratio.overall([(a, a * [1.1, 1.3])])
    assert found.ratio == pytest.approx(math.sqrt(1.1 * 1.3))
    assert (found.verdict, found.n_a) == (SLOWER, 3)


def test_the_cases_of_a_block_share_its_luck() -> None:
    """A block that is slow is slow in all its cases: ten cases are no more evidence than one."""
    a = np.array([[1.0], [1.1], [0.9]])
    one, ten = (ratio.overall([(np.repeat(a, n, 1), 1.15 * np.repeat(a, n, 1))]) for n in (1, 10))
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high))


def test_a_block_that_lacks_a_case_makes_no_interval_but_counts_in_the_mean() -> None:
    a = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, np.nan]])
    found = ratio.overall([(a, 2 * a)])
    assert found.ratio == pytest.approx(2)
    assert (found.low, found.verdict) == (None, UNCLEAR)
    assert ratio.overall([]) is None


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("spread", [0.0, 0.01, 3.0])
def test_calls_in_turn_have_an_interval_from_three_pairs_on(n: int, spread: float) -> None:
    pairs = [(2.0 * math.exp(spread * (i % 2)), 1.0) for i in range(n)]
    middle, low, high = ratio.in_turn(pairs)
    if n < ratio.MIN_PAIRS:
        assert (low, high) == (None, None)  # Student’s t of two would reach over many powers of ten
    else:
        assert low <= middle <= high < 1e4
