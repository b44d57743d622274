"""Intervals of medians and of their ratios hold the truth as often as they say, or there are none."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import intervals, student
from tests.rng import RNG


def drawn(rng: np.random.Generator, n: int, level: float = 1.0, process: float = 0.05) -> list[np.ndarray]:
    return [level * np.exp(process * rng.standard_normal() + 0.005 * rng.standard_normal(10)) for _ in range(n)]


@pytest.mark.parametrize("n", [3, 4, 10])
def test_processes_are_the_unit(n: int) -> None:
    rng = np.random.default_rng(n)
    known = [intervals.of_ratio(drawn(rng, n, 2), drawn(rng, n)) for _ in range(400)]
    assert {each.basis for each in known} == {"processes"}
    assert np.mean([each.low < 2 < each.high for each in known]) > 0.92


@pytest.mark.parametrize(("above", "below"), [(1, 1), (2, 2), (1, 10), (10, 2)])
def test_fewer_than_three_processes_of_a_side_tell_a_range_and_no_interval(above: int, below: int) -> None:
    """However many repetitions they make."""
    rng = np.random.default_rng(0)
    sides = drawn(rng, above, 2), drawn(rng, below)
    known = intervals.of_ratio(*sides)
    assert (known.low, known.high, known.basis) == (None, None, "repetitions")
    ends = [(side.min(), side.max()) for side in map(np.concatenate, sides)]
    assert (known.least, known.most) == pytest.approx((ends[0][0] / ends[1][1], ends[0][1] / ends[1][0]))
    assert (known.n, known.n_processes) == (10 * min(above, below), min(above, below))
    alone = intervals.of_median(sides[0])
    assert (alone.low is None, alone.least, alone.most) == (above < 3, *ends[0])


def test_the_estimate_is_the_ratio_of_medians() -> None:
    known = intervals.of_ratio([np.array([2.0, 4.0])], [np.array([1.0, 1.0, 2.0])])
    assert known.value == pytest.approx(3)


def test_the_interval_holds_its_own_estimate() -> None:
    """The median of all repetitions can lie beyond what processes differ by, where they made unequal numbers."""
    processes = [np.full(50, 2.0), np.full(3, 1.0), np.full(3, 1.0), np.full(3, 1.01), np.full(3, 0.99)]
    known = intervals.of_median(processes)
    assert known.low <= known.value == 2 <= known.high


def test_the_quantiles_that_queries_use_are_students() -> None:
    exact = [student.quantile(df, student.SHARE_OF_MEAN) for df in range(1, len(student.QUANTILES_OF_MEAN) + 1)]
    assert list(student.QUANTILES_OF_MEAN) == pytest.approx(exact, abs=1e-5)


# ---------------------------------------------------------------- many images


@pytest.mark.parametrize("n", [3, 10])
@pytest.mark.parametrize(("calls", "n_images"), [(2, 500), (10, 500), (10, 1)])
@pytest.mark.parametrize(("process", "call"), [(0.05, 0.005), (0.005, 0.05)])
def test_many_images_of_a_further_process_take_as_long_as_predicted(
    n: int, calls: int, n_images: int, process: float, call: float
) -> None:
    def times(n_calls: int) -> np.ndarray:
        """Of one process; every fifth call or so is slow, so the mean is no median."""
        slow = 1 + 0.1 * (RNG.random(n_calls) < 0.2)
        return slow * np.exp(process * RNG.standard_normal() + call * RNG.standard_normal(n_calls))

    held = []
    for _ in range(300):
        known = intervals.of_batch([times(calls) for _ in range(n)], n_images)
        held.append(known.low <= times(n_images).mean() <= known.high)
    assert np.mean(held) > 0.92


def test_an_interval_of_processes_is_no_prediction_of_another_one() -> None:
    processes = [[each] for each in (1.0, 1.1, 1.2, 1.05, 1.15, 1.08, 1.12, 1.02, 1.18, 1.1)]
    of_processes, of_another = intervals.of_median(np.array(processes)), intervals.of_batch(np.array(processes), 500)
    assert np.log(of_another.high / of_another.low) > 3 * np.log(of_processes.high / of_processes.low)


def test_calls_that_are_slow_now_and_then_are_part_of_many_images() -> None:
    processes = [np.array([1.0, 1.0, 1.0, 2.0])] * 3
    assert (intervals.of_median(processes).value, intervals.of_batch(processes, 500).value) == pytest.approx((1, 1.25))
