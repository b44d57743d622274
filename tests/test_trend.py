"""What is said of a speed-up that changes with size."""

import numpy as np
import pytest

from harness.stats import trend
from harness.stats.trend import Crossing, Trend
from tests.rng import RNG

LENGTHS = np.array([224, 448, 896, 1344, 1792, 2240])
SLOW_S = np.array([1.0, 4.0, 16.0, 36.0, 64.0, 100.0])


def processes(times_s: np.ndarray, spread: float, n: int = 3) -> np.ndarray:
    return times_s * np.exp(RNG.normal(0, 0.05, (n, 1)) + RNG.normal(0, spread, (n, len(times_s))))


def judged(speedups: list[float], spread: float = 0.005, n: int = 3) -> Trend:
    return trend.trend(LENGTHS, processes(SLOW_S, spread, n), processes(SLOW_S / np.array(speedups), spread, n))


@pytest.mark.parametrize(
    ("speedups", "word", "from_px"),
    [
        ([4, 8, 10, 10, 10, 10], trend.FLAT, 896),
        ([10, 10, 10, 10, 10, 10], trend.FLAT, 224),
        ([4, 6, 8, 9.5, 9.9, 10], trend.FLAT, 1344),
        ([4, 6, 8, 9, 10, 11.5], trend.RISING, 1344),
        ([2, 3, 5, 8, 12, 20], trend.RISING, 1344),
        ([12, 11, 10, 8, 7, 6], trend.FALLING, 1344),
        ([0.2, 0.3, 0.5, 0.5, 0.5, 0.5], trend.FLAT, 896),
    ],
)
def test_the_words(speedups: list[float], word: str, from_px: float) -> None:
    found = judged(speedups, spread=0.001)
    assert (found.word, found.from_px, found.to_px) == (word, from_px, 2240)


def test_the_interval_of_the_change_covers_it() -> None:
    found = [judged([4, 6, 8, 9, 10, 11.5]) for _ in range(400)]
    first = dict(zip(LENGTHS, [4, 6, 8, 9, 10, 11.5], strict=True))
    changes = [(each.change, 11.5 / first[each.from_px]) for each in found if each.change]
    assert len(changes) > 300
    assert np.mean([low <= truth <= high for (_, low, high), truth in changes]) >= 0.93


def test_noise_makes_no_words() -> None:
    assert judged([10] * 6, spread=0.2) == Trend(trend.UNKNOWN)


@pytest.mark.parametrize("n", [1, 2])
def test_few_processes_or_sizes_say_nothing(n: int) -> None:
    assert judged([4, 6, 8, 9, 10, 11.5], n=n).word == trend.UNKNOWN
    two = trend.trend(LENGTHS[:2], processes(SLOW_S[:2], 0.001), processes(SLOW_S[:2] / 5, 0.001))
    assert two.word == trend.UNKNOWN


@pytest.mark.parametrize(
    ("speedups", "found"),
    [
        ([0.5, 0.8, 2, 3, 4, 5], Crossing(448, 896)),
        ([2, 2, 2, 3, 4, 5], Crossing(None, 224)),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], Crossing(2240, None)),
        ([0.8, 1.3, 0.8, 1.3, 1.4, 1.4], Crossing(896, 1344)),
        ([4, 3, 2, 1.5, 1.2, 0.5], Crossing(2240, None)),
        ([0.5, 1.0, 2, 3, 4, 5], Crossing(224, 896)),
    ],
)
def test_where_the_fast_device_begins_to_win(speedups: list[float], found: Crossing) -> None:
    sides = [times_s * np.exp(RNG.normal(0, 0.005, (5, 6))) for times_s in (SLOW_S, SLOW_S / np.array(speedups))]
    assert trend.crossing(LENGTHS, *sides) == found
    assert trend.crossing(LENGTHS, *(side[:2] for side in sides)) == Crossing(None, None)


def test_processes_without_any_spread_are_judged() -> None:
    gains = np.array([4, 8, 10, 10, 10, 10])
    sides = np.tile(SLOW_S, (3, 1)), np.tile(SLOW_S / gains, (3, 1))
    assert trend.trend(LENGTHS, *sides).word == trend.FLAT
    assert trend.crossing(LENGTHS, *sides).faster_from_px == 224
