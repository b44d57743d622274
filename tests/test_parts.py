"""Which parts of a stack stay: those that the stack is faster with."""

import numpy as np
import pytest

from harness.stats import selection
from tests.rng import RNG


def race(without: dict[str, float], stock: float = 2.0, processes: int = 5) -> selection.Choice:
    """A stack that takes 1 s, and what it takes without each part; each process has its own luck."""
    luck = np.exp(RNG.normal(0, 0.2, (processes, 1)))

    def side(level: float) -> np.ndarray:
        return level * luck * np.exp(0.005 * RNG.standard_normal((processes, 3)))

    return selection.choose(side(1.0), side(stock), {part: side(level) for part, level in without.items()})


def test_parts_that_help_stay() -> None:
    found = race({"a": 1.5, "b": 1.2})
    assert (found.drop, found.is_answer) == (None, True)
    assert found.over_stock.low < 2 < found.over_stock.high
    assert found.over_without["b"].times == pytest.approx(1.2, rel=0.02)


@pytest.mark.parametrize(("useless", "at_least"), [(1.0, 0.95), (0.9, 1.0), (1.001, 0.9)])
def test_a_part_that_does_nothing_or_harms_goes(useless: float, at_least: float) -> None:
    found = [race({"a": 1.5, "b": useless}) for _ in range(400)]
    assert np.mean([(each.drop, each.is_answer) == ("b", False) for each in found]) >= at_least


def test_one_part_goes_at_a_time_the_worst_first() -> None:
    """Two parts that do the same are each useless if the other one is there."""
    assert race({"a": 1.0, "b": 0.95, "c": 1.0}).drop == "b"


def test_a_single_part_that_does_nothing_leaves_stock() -> None:
    found = [race({"a": 1.0}, stock=1.0) for _ in range(400)]
    assert np.mean([(each.drop, each.is_answer) == ("a", False) for each in found]) >= 0.95


def test_a_stack_that_does_not_beat_stock_is_no_answer() -> None:
    """Each part mends what the other one breaks."""
    found = race({"a": 1.5, "b": 1.5}, stock=1.0)
    assert (found.drop, found.is_answer) == (None, False)


@pytest.mark.parametrize("processes", [1, 2])
def test_fewer_than_three_processes_choose_nothing(processes: int) -> None:
    found = race({"a": 2.0}, processes=processes)
    assert (found.is_answer, found.drop, found.over_stock.low) == (False, "a", None)


def test_calls_that_are_missing_are_left_out() -> None:
    fast, slow = np.ones((4, 3)), np.full((4, 3), 2.0)
    slow[:, 2] = np.nan
    assert selection.gain(fast, slow).times == pytest.approx(2)


def test_a_stack_without_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        race({})
