import numpy as np

from harness.stats.changes import change_points


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
