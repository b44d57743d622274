"""The law of tiles and pixels: known times come back, and what does not fit is not shown."""

import numpy as np
import pytest
from scipy import optimize

from harness.stats import law
from tests.rng import RNG

TILES = np.array([6, 11, 24, 43, 67, 96, 113, 150, 171, 252])
MPX = np.array([0.05, 0.2, 0.45, 0.8, 1.25, 1.8, 2.46, 3.2, 4.06, 5.53])


def times(fixed_s: float, per_tile_s: float, per_mpx_s: float) -> np.ndarray:
    return fixed_s + per_tile_s * TILES + per_mpx_s * MPX


def processes(true_s: np.ndarray, spread: float, n: int = 3) -> np.ndarray:
    return true_s * np.exp(RNG.normal(0, 0.1, (n, 1)) + RNG.normal(0, spread, (n, len(true_s))))


@pytest.mark.parametrize("truth", [(0.3, 0.1, 0.5), (0.0, 0.4, 0.0), (0.2, 0.0, 3.0), (1.0, 0.02, 0.0)])
def test_the_coefficients_come_back(truth: tuple[float, float, float]) -> None:
    found = law.fit(TILES, MPX, times(*truth)[None])
    assert found.coefficients == pytest.approx(truth, abs=1e-6)
    assert found.relative_error == pytest.approx(0, abs=1e-6)
    assert found.at(24, 0.45).value_s == pytest.approx(times(*truth)[2])


def test_no_coefficient_is_negative() -> None:
    """Per-tile time that rises with size would otherwise be a negative start."""
    found = law.fit(TILES, MPX, (0.01 * TILES**1.2)[None])
    assert min(found.coefficients) == 0


@pytest.mark.parametrize("seed", range(40))
def test_the_least_squares_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    design, wanted = rng.uniform(0, 3, (rng.integers(4, 12), 3)), rng.normal(size=3)
    times = design @ wanted + rng.normal(scale=0.1, size=len(design))
    assert law.non_negative(design, times) == pytest.approx(optimize.nnls(design, times)[0], abs=1e-9)


def test_nothing_is_predicted_beyond_what_was_measured() -> None:
    found = law.fit(TILES, MPX, times(0.3, 0.1, 0.5)[None])
    assert [found.at(*work) for work in ((5, 0.1), (253, 5.0), (50, 0.04), (50, 6.0))] == [None] * 4
    assert found.at(50, 1.0) is not None


@pytest.mark.parametrize("n", [1, 2])
def test_few_processes_do_not_test_a_law(n: int) -> None:
    found = law.fit(TILES, MPX, processes(times(0.3, 0.1, 0.5), 0.01, n))
    assert (found.misfit, found.misfit_p, found.is_good) == (None, None, False)


def test_a_straight_line_through_a_staircase_is_refused_and_the_tiles_are_not() -> None:
    measured = processes(times(0.05, 0.4, 0.5), 0.02)
    assert law.fit(TILES, MPX, measured).is_good
    line = law.fit(np.zeros(len(MPX)), MPX, measured)
    assert (line.is_good, line.misfit > 0.05, line.misfit_p < 0.001) == (False, True, True)


def test_a_misfit_that_nobody_would_mind_is_no_reason() -> None:
    """Quiet processes make every law false."""
    true_s = times(0.05, 0.4, 0.5) * (1 + 0.01 * (-1.0) ** np.arange(10))
    found = law.fit(TILES, MPX, processes(true_s, 0.0001))
    assert (found.misfit_p < 0.001, found.is_good) == (True, True)


def test_processes_that_are_slow_as_a_whole_are_no_misfit() -> None:
    found = law.fit(TILES, MPX, times(0.05, 0.4, 0.5) * np.array([[1.0], [1.2], [0.9]]))
    assert found.relative_error == pytest.approx(0, abs=1e-6)


def test_too_few_sizes_or_no_growth_give_no_law() -> None:
    assert law.fit(TILES[:4], MPX[:4], times(0.3, 0.1, 0.5)[None, :4]) is None
    assert law.fit(TILES, MPX, np.linspace(2, 1, 10)[None]) is None


def test_a_size_that_a_process_lacks_is_taken_from_the_others() -> None:
    measured = processes(times(0.3, 0.1, 0.5), 0.0, 4)
    measured /= np.exp(np.log(measured / times(0.3, 0.1, 0.5)).mean(axis=1, keepdims=True))
    measured[0, 3] = np.nan
    assert law.fit(TILES, MPX, measured).coefficients == pytest.approx((0.3, 0.1, 0.5), abs=1e-6)


@pytest.mark.parametrize("n", [3, 6])
@pytest.mark.parametrize("single", [0.002, 0.05])
def test_a_further_process_takes_what_is_predicted(n: int, single: float) -> None:
    true_s, held = times(0.3, 0.1, 0.5), []
    for _ in range(300):
        found = law.fit(TILES, MPX, processes(true_s, single, n)).of_process(TILES[4], MPX[4])
        [further] = processes(true_s, single, 1)
        held.append(found.low_s <= further[4] <= found.high_s)
    assert np.mean(held) > 0.92
