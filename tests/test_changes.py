from itertools import combinations, pairwise

import numpy as np
import pytest

from harness.stats.changes import best_cuts, change_points


def series(*levels: tuple[float, int], sd: float = 0.01, seed: int = 1) -> list[float]:
    rng = np.random.default_rng(seed)
    return [level * float(np.exp(rng.normal(0, sd))) for level, n in levels for _ in range(n)]


def test_a_step_is_marked_where_it_is() -> None:
    assert change_points(series((1.0, 20), (1.1, 15))) == [20]
    assert change_points(series((1.0, 20), (1.1, 15), (0.9, 15))) == [20, 35]


def test_noise_has_no_change_points() -> None:
    assert sum(bool(change_points(series((1.0, 60), seed=seed))) for seed in range(20)) <= 1


def test_a_few_runs_or_a_series_without_noise_have_none() -> None:
    assert change_points(series((1.0, 4), (2.0, 4))) == []
    assert change_points([1.0] * 30) == []


def test_a_step_too_small_to_matter_is_not_marked() -> None:
    assert change_points(series((1.0, 30), (1.005, 30), sd=0.0005)) == []


def cost(values: np.ndarray, cuts: tuple[int, ...], penalty: float) -> float:
    return sum(len(part) * part.var() for part in np.split(values, cuts)) + penalty * len(cuts)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_cuts_are_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=9) + rng.normal(0, 4) * (np.arange(9) >= rng.integers(9))
    every = [
        cuts for n in range(4) for cuts in combinations(range(2, 8), n) if all(b - a >= 2 for a, b in pairwise(cuts))
    ]
    best = min(every, key=lambda cuts: cost(values, cuts, 3.0))
    assert best_cuts(values, 3.0) == list(best)
