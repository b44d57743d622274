"""The arithmetic of comparisons, against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from harness.stats import difference
from harness.stats.difference import FASTER, INCONCLUSIVE, SAME, SLOWER, Difference
from tests.rng import RNG

NONE = np.zeros(0)


def ends(found: Difference) -> tuple[float, float]:
    return float(found.centre - found.reach), float(found.centre + found.reach)


def test_pairs_are_judged_by_students_t() -> None:
    x = RNG.normal(0.03, 0.02, 12)
    known = stats.ttest_1samp(x, 0)
    assert ends(difference.paired(x)) == pytest.approx(tuple(known.confidence_interval()))
    assert difference.paired(x).p == pytest.approx(known.pvalue)


def test_sides_of_one_series_share_their_spread_with_its_history() -> None:
    a, b, others = RNG.normal(0, 0.02, 3), RNG.normal(0, 0.02, 4), RNG.normal(1, 0.02, 10)
    found = difference.unpaired(a, b, others)
    squares = sum(((side - side.mean()) ** 2).sum() for side in (a, b, others))
    assert found.freedom == 2 + 3 + 9
    assert found.error == pytest.approx(np.sqrt(squares / 14 * (1 / 3 + 1 / 4)))


def test_sides_of_two_series_have_spreads_of_their_own() -> None:
    a, b = RNG.normal(0, 0.01, 5), RNG.normal(0, 0.05, 6)
    known = stats.ttest_ind(b, a, equal_var=False)
    found = difference.unpaired(a, b, NONE, NONE)
    assert ends(found) == pytest.approx(tuple(known.confidence_interval()))
    quiet, loud = RNG.normal(0, 0.01, 12), RNG.normal(0, 0.05, 12)
    single = difference.unpaired(a[:1], b[:1], quiet, loud)
    assert single.error == pytest.approx(np.sqrt(quiet.var(ddof=1) + loud.var(ddof=1)))
    assert np.isnan(difference.unpaired(a[:1], b[:1], quiet, loud[:9]).error)


@pytest.mark.parametrize(
    ("days", "history", "known"),
    [(1, 0, False), (2, 0, False), (3, 0, True), (1, 9, False), (1, 10, True), (2, 8, True), (5, 2, True)],
)
def test_few_days_tell_nothing(days: int, history: int, known: bool) -> None:
    """Ten days of a series, those of the sides included, or three a side."""
    side = RNG.normal(0, 0.01, (2, days))
    found = difference.unpaired(side[0], side[1], RNG.normal(0, 0.01, history))
    assert np.isnan(found.error) != known
    assert np.isnan(found.p) != known


def test_two_pairs_tell_nothing() -> None:
    assert np.isnan(difference.paired(np.array([0.5, 0.5])).error)


def test_a_single_day_is_believed_less_than_a_mean_of_days() -> None:
    """Its tails are the machine's own."""
    one, mean = (Difference(np.float64(0.1), np.float64(0.04), np.float64(20), units) for units in (1, 5))
    assert one.reach > mean.reach
    assert (one.p, mean.p) == (pytest.approx(2 * stats.t.sf(2.5, 4)), pytest.approx(2 * stats.t.sf(2.5, 20)))


@pytest.mark.parametrize(
    ("centre", "error", "verdict"),
    [(0.0, 0.01, SAME), (0.02, 0.01, SAME), (0.1, 0.01, SLOWER), (-0.1, 0.01, FASTER), (0.1, 0.09, INCONCLUSIVE),
     (0.0, 0.09, INCONCLUSIVE), (0.5, np.nan, INCONCLUSIVE), (0.0, np.nan, INCONCLUSIVE)],
)  # fmt: skip
def test_verdicts(centre: float, error: float, verdict: str) -> None:
    found = Difference(np.float64(centre), np.float64(error), np.float64(20), 12)
    assert difference.judge(found, found.p) == verdict


def test_holms_correction_by_hand() -> None:
    assert difference.holm(np.array([0.04, 0.01, 0.02])) == pytest.approx([0.04, 0.03, 0.04])
    assert difference.holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])
    # Half of the chance is the last one's: .01 × 2, then .015 × (2/3) / (1/3), never falling.
    weighted = difference.holm(np.array([0.015, 0.3, 0.01]), np.array([0.5, 0.5, 1.0]))
    assert weighted == pytest.approx([0.03, 0.3, 0.02])


def test_what_is_not_known_takes_no_share_of_the_correction() -> None:
    found = difference.holm(np.array([[np.nan, 0.01, 0.02], [0.5, np.nan, np.nan]]))
    assert found[0, 1:] == pytest.approx([0.02, 0.02])
    assert (np.isnan(found[0, 0]), found[1, 0]) == (True, 0.5)
