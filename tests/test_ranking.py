"""Which devices are faster than others: nothing is claimed that the processes do not show."""

import numpy as np
import pytest

from harness.stats import ranking
from harness.stats.ranking import Device, Place
from tests.rng import RNG


def device(level: float, spread: float = 0.01, n: int = 4, hour: str = "") -> Device:
    return Device(level * np.exp(spread * RNG.standard_normal(n)), hour)


def test_clear_differences_are_ranked() -> None:
    found = ranking.places([device(4), device(1), device(2)])
    assert found == [Place(3, 3), Place(1, 1), Place(2, 2)]
    assert [place.is_fastest for place in found] == [False, True, False]


def test_what_cannot_be_told_apart_shares_its_places() -> None:
    found = ranking.places([device(1, 0.05), device(1.01, 0.05), device(3)])
    assert found == [Place(1, 2), Place(1, 2), Place(3, 3)]


@pytest.mark.parametrize("n", [1, 2])
def test_few_processes_have_any_place_and_keep_the_first_from_others(n: int) -> None:
    found = ranking.places([device(1), device(9, n=n), device(4)])
    assert found == [Place(1, 2), Place(1, 3), Place(2, 3)]


@pytest.mark.parametrize(("factor", "known"), [(1.2, False), (3.0, True)])
def test_devices_of_other_hours_must_lie_far_apart(factor: float, known: bool) -> None:
    assert ranking.places([device(1, hour="a"), device(factor, hour="a")])[0].is_fastest
    assert ranking.places([device(1, hour="a"), device(factor, hour="b")])[0].is_fastest == known


def test_the_fastest_of_many_takes_no_correction_for_the_others() -> None:
    others = [device(1.15, 0.01, 3) for _ in range(11)]
    assert ranking.places([device(1, 0.01, 3), *others])[0].is_fastest


def test_one_device_is_the_fastest_of_itself_and_none_of_nobody() -> None:
    assert ranking.places([device(1)]) == [Place(1, 1)]
    assert ranking.places([]) == []


def test_processes_without_any_spread() -> None:
    same = [Device((1.0, 1.0, 1.0), ""), Device((1.0, 1.0, 1.0), ""), Device((2.0, 2.0, 2.0), "")]
    assert ranking.places(same) == [Place(1, 2), Place(1, 2), Place(3, 3)]
