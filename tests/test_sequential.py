"""Interleaved pairs, looked at again and again: what is promised of them holds for any noise."""

import math

import numpy as np
import pytest

from harness.stats import sequential
from harness.stats.difference import FASTER, INCONCLUSIVE, SAME, SLOWER
from tests.rng import RNG


def pairs(logs: np.ndarray) -> list[tuple[float, float]]:
    return [(1.0, math.exp(x)) for x in logs]


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, SAME), (1.1, SLOWER), (0.9, FASTER), (2.0, SLOWER), (1.01, SAME)]
)
def test_what_is_clear_is_decided(factor: float, verdict: str) -> None:
    found = sequential.look(pairs(math.log(factor) + RNG.normal(0, 0.02, 40)))
    assert found.verdict == verdict
    assert found.low < factor < found.high
    assert (found.p < 0.05) == (factor not in (1.0, 1.01)) or factor == 1.01


@pytest.mark.parametrize("n", range(1, 6))
def test_fewer_than_six_pairs_never_decide(n: int) -> None:
    """Six coins that fall alike do so in 3 % of trials."""
    for factor in (1.0, 1.2, 50.0):
        found = sequential.look(pairs(np.full(n, math.log(factor))))
        assert found.verdict == INCONCLUSIVE
        assert (found.low, found.high) == (None, None)


def test_a_large_change_is_seen_after_a_handful_of_pairs() -> None:
    assert sequential.look(pairs(np.full(7, math.log(3)))).verdict == SLOWER


def test_a_pair_of_a_thousand_fold_does_not_decide() -> None:
    """One process that hung counts no more than one coin."""
    logs = np.append(RNG.normal(0, 0.02, 12), math.log(1000))
    assert sequential.look(pairs(logs)).verdict != SLOWER


def test_swapping_the_sides_swaps_the_answer() -> None:
    logs = RNG.normal(0.03, 0.05, 20)
    one, other = sequential.look(pairs(logs)), sequential.look(pairs(-logs))
    assert (one.low, one.high, one.ratio) == pytest.approx((1 / other.high, 1 / other.low, 1 / other.ratio))
    assert one.p == pytest.approx(other.p)


def test_a_wider_margin_is_decided_sooner() -> None:
    logs = RNG.normal(0, 0.08, 12)
    assert [sequential.look(pairs(logs), margin).verdict for margin in (0.02, 0.3)] == [INCONCLUSIVE, SAME]


def test_more_cases_ask_for_more_evidence() -> None:
    one, ten = (sequential.look(pairs(RNG.normal(0.05, 0.001, 9)), n_cases=n) for n in (1, 10))
    assert one.low > ten.low
    assert ten.p > one.p


SHAPES = {
    "heavy": lambda size: 0.05 * RNG.standard_t(1.5, size),
    "two modes": lambda size: 0.01 * RNG.standard_normal(size) + 0.1 * (RNG.random(size) < 0.2),
    "growing": lambda size: 0.01 * RNG.standard_normal(size) * np.arange(1, size[-1] + 1),
    "drifting": lambda size: np.cumsum(0.02 * RNG.standard_normal(size), axis=-1) + 0.01 * np.arange(size[-1]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_unchanged_machine_is_rarely_called_changed_however_often_one_looks(shape: str) -> None:
    """A coin decides which process of a pair comes first; nothing else is assumed."""
    trials, n = 1500, 60
    first, second = np.moveaxis(SHAPES[shape]((trials, 2 * n)).reshape(trials, n, 2), -1, 0)
    logs = (second - first) * RNG.choice((-1, 1), (trials, n))
    ever = np.array([(sequential.evidence(sign * logs) >= sequential.threshold(2)).any(axis=1) for sign in (-1, 1)])
    assert ever.any(axis=0).mean() <= 0.05


@pytest.mark.parametrize("change", [0.05, -1 / 21])
def test_a_change_as_large_as_the_margin_is_rarely_called_the_same(change: float) -> None:
    logs = np.log1p(change) + RNG.normal(0, 0.05, (1500, 100))
    near = [sequential.evidence(math.log(1.05) + sign * logs) >= sequential.threshold(1) for sign in (-1, 1)]
    assert (near[0] & near[1]).any(axis=1).mean() <= 0.06


def test_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="takes a pair"):
        sequential.look([])
