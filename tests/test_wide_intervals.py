"""An interval so wide that it tells nothing is none, wherever one is computed: no end is absurd, none overflows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from harness.stats import difference, intervals, selection, verdict
from harness.stats.verdict import Run

FACTORS = (1.0, 1.5, 30.0, 1e4, 1e40, 1e150)  # by which three processes differ


def _gain(factor: float) -> tuple[float | None, float | None]:
    found = selection.gain(np.array([[1.0], [1.0], [1.0]]), np.array([[1.0], [factor], [1 / factor]]))
    return found.low, found.high


def _within_run(factor: float) -> tuple[float | None, float | None]:
    found = intervals.of_median([np.array([1.0, 1.1]), np.array([factor]), np.array([1 / factor])])
    return found.low, found.high


def _ratio(factor: float) -> tuple[float | None, float | None]:
    found = intervals.of_ratio([np.array([1.0]), np.array([factor]), np.array([1 / factor])], [np.array([1.0])] * 3)
    return found.low, found.high


def _compared(factor: float) -> tuple[float | None, float | None]:
    before, after = (
        [Run(f"{side}{day}", start + day, (each,)) for day, each in enumerate(times)]
        for side, start, times in (("a", 0.0, (1.0, 1.0, 1.0)), ("b", 10.0, (1.0, factor, 1 / factor)))
    )
    [found], _ = verdict.verdicts([verdict.Case(before, after)])
    return found.low, found.high


WAYS: dict[str, Callable[[float], tuple[float | None, float | None]]] = {
    "gain": _gain, "median": _within_run, "ratio": _ratio, "compared": _compared,
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("factor", FACTORS)
def test_every_interval_tells_something_or_is_none(name: str, factor: float) -> None:
    low, high = WAYS[name](factor)
    assert (low is None) == (high is None)
    if factor <= 1.5:
        assert low is not None
    if low is not None and high is not None:
        assert 0 < low <= high < math.inf
        assert high / low <= math.exp(2 * difference.TELLING) * 1.001
    if factor >= 1e4:
        assert low is None


@pytest.mark.parametrize("reach", [math.nan, math.inf, 800.0, 1e308])
def test_ends_never_overflow(reach: float) -> None:
    assert difference.ends(0.0, reach) == (None, None)
