"""Intervals of medians and of their ratios hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import intervals


@pytest.mark.parametrize("n", [5, 10, 30])
def test_ratio_of_two_medians_of_one_process_each(n: int) -> None:
    rng, held = np.random.default_rng(n), 0
    for _ in range(500):
        above, below = 2 * np.exp(0.05 * rng.standard_normal(n)), np.exp(0.05 * rng.standard_normal(n))
        known = intervals.of_ratio([above], [below])
        held += known.low < 2 < known.high
    assert held / 500 > 0.92


def test_processes_are_the_unit_where_there_are_several() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        sides = [
            [np.exp(0.05 * rng.standard_normal() + 0.005 * rng.standard_normal(10)) for _ in range(4)] for _ in range(2)
        ]
        known = intervals.of_ratio(*sides)
        held += known.low < 1 < known.high
    assert known.basis == "processes"
    assert held / 400 > 0.92


def test_the_estimate_is_the_ratio_of_medians_and_two_repetitions_tell_no_interval() -> None:
    known = intervals.of_ratio([np.array([2.0, 4.0])], [np.array([1.0, 1.0, 2.0])])
    assert known.value == pytest.approx(3)
    assert (known.low, known.high) == (None, None)
