"""The simulation of docs/statistics.md, at the size of a test: what the rules promise, they keep."""

import importlib.util

import numpy as np
import pytest

from tests.conftest import REPOSITORY

path = REPOSITORY / "scripts/benchmarks/false_alarms.py"
spec = importlib.util.spec_from_file_location("false_alarms", path)
false_alarms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(false_alarms)


def compared(
    blocks: int, shift: float, cases: int = 1, slowed: int = 0, between: float = 0.0, n_others: int = 0
) -> dict[str, float]:
    rng = np.random.default_rng(8)
    return false_alarms.compared(rng, "clean", blocks, shift, cases, slowed, between, n_others, 4000)


@pytest.mark.parametrize(("cases", "blocks"), [(1, 3), (1, 5), (10, 3), (10, 5)])
def test_two_equal_sides_get_at_most_five_percent_wrong_verdicts(cases: int, blocks: int) -> None:
    assert compared(blocks, 0.0, cases)["wrong"] <= 0.05


def test_five_percent_is_found_from_five_blocks_a_side() -> None:
    assert compared(5, 0.05, slowed=1)["SLOWER"] >= 0.85


def test_a_difference_between_hours_looks_like_a_change() -> None:
    """Why a comparison of one run with one run carries a caution, and its mean is judged beyond the margin only."""
    found = compared(5, 0.0, 10, between=0.02)
    assert found["wrong"] > 0.2
    assert found["mean"] <= 0.05


@pytest.mark.parametrize("cases", [1, 10])
@pytest.mark.parametrize("n_others", [5, 20])
@pytest.mark.parametrize("between", [0.0, 0.01, 0.02, 0.05])
def test_where_other_runs_tell_how_far_hours_lie_apart_equal_runs_are_rarely_called_different(
    cases: int, n_others: int, between: float
) -> None:
    found = compared(5, 0.0, cases, between=between, n_others=n_others)
    assert max(found["wrong"], found["mean"]) <= 0.06  # 5 %, and what 4000 trials may miss it by


def test_other_runs_that_agree_cost_little() -> None:
    assert compared(5, 0.05, slowed=1, n_others=20)["SLOWER"] >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clean", "heavy", "two modes"])
def test_the_whole_bookkeeping_keeps_false_alarms_rare(kind: str) -> None:
    assert false_alarms.followed(np.random.default_rng(8), kind, 60) <= 0.002


@pytest.mark.slow
def test_what_an_unclear_asks_for_settles_it() -> None:
    share, _ = false_alarms.settled(np.random.default_rng(8), 0.05, 600)
    assert share >= 0.75
