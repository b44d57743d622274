"""Scaling laws: known lines come back, and what cannot be told is not claimed."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import scaling

SIZES = np.array([224, 448, 896, 1344, 2016, 2352]) ** 2


def _law(fixed_s: float, per_mpx_s: float, noise: float = 0.0, seed: int = 0) -> scaling.Scaling:
    rng = np.random.default_rng(seed)
    times = (fixed_s + per_mpx_s * SIZES / 1e6) * np.exp(noise * rng.standard_normal(len(SIZES)))
    found = scaling.fit(SIZES, times)
    assert found is not None
    return found


def test_a_line_comes_back() -> None:
    law = _law(0.5, 11.0)
    assert (law.fixed_s, law.per_mpx_s) == (pytest.approx(0.5), pytest.approx(11.0))
    assert law.relative_error == pytest.approx(0, abs=1e-9)


def test_too_few_sizes_or_no_growth_give_no_law() -> None:
    assert scaling.fit([1e6, 2e6, 3e6], [1, 2, 3]) is None
    assert scaling.fit([1e6, 2e6, 3e6, 4e6], [4, 3, 2, 1]) is None


def test_limit_break_even_and_where_it_is_near() -> None:
    gain = scaling.gain(_law(0.2, 10.0), _law(1.0, 1.0))
    assert gain.limit == pytest.approx(10)
    assert gain.break_even_mpx == pytest.approx(0.8 / 9)
    assert gain.near_mpx == pytest.approx((0.9 * 10 * 1.0 - 0.2) / (0.1 * 10))
    assert scaling.gain(_law(1.0, 10.0), _law(0.2, 1.0)).break_even_mpx == 0
    assert scaling.gain(_law(0.2, 1.0), _law(1.0, 10.0)).break_even_mpx is None


def test_the_interval_of_the_limit_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(300):
        gain = scaling.gain(_law(0.4, 11.0, 0.05, seed), _law(0.25, 0.9, 0.05, 1000 + seed))
        held += gain.limit_low is not None and gain.limit_low < 11.0 / 0.9 < gain.limit_high
    assert held / 300 > 0.93
