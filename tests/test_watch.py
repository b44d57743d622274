import numpy as np
import pytest
from scipy import stats

from harness.stats import watch
from harness.stats.watch import Masks, Rule

CALM = [1.00, 1.01, 0.99, 1.00, 1.02, 0.98, 1.00, 1.01]


def states(values: list[float], resets: tuple[int, ...] = ()) -> list[str]:
    return [each.state for each in watch.numbers(values, resets)]


def test_the_band_is_a_prediction_interval() -> None:
    logs = np.log([1.0, 1.1, 0.9, 1.05, 0.97, 1.02])
    expected = watch.band(logs)
    reach = stats.t.ppf(0.999, 5) * logs.std(ddof=1) * np.sqrt(1 + 1 / 6)
    assert (expected.low, expected.high) == pytest.approx(tuple(np.exp(logs.mean() + side * reach) for side in (-1, 1)))


def test_a_quiet_series_has_a_floor_of_five_percent() -> None:
    expected = watch.band(np.zeros(10))
    assert (expected.low, expected.high) == pytest.approx((1 / 1.05, 1.05))
    assert [states([1.0] * 10 + [value])[-1] for value in (1.049, 1.051)] == ["usual", "suspect"]


def test_nothing_is_judged_before_five_runs() -> None:
    assert states([1, 1, 1, 1, 9]) == ["learning"] * 5


def test_one_run_makes_a_suspicion_and_two_an_alarm() -> None:
    judged = watch.numbers([*CALM, 1.3, 1.3, 1.3])
    assert [each.state for each in judged[-3:]] == ["suspect", "alarm", "alarm"]
    assert {(each.direction, each.began) for each in judged[-3:]} == {(1, 8)}


def test_what_the_re_run_does_not_confirm_is_dismissed_and_joins_the_baseline() -> None:
    judged = watch.numbers([*CALM, 1.3, 1.0, 1.0])
    assert [each.state for each in judged[-3:]] == ["dismissed", "usual", "usual"]
    assert judged[-1].band.n == len(CALM) + 2
    assert judged[-1].band.high > judged[-2].band.high


def test_an_improvement_is_watched_too() -> None:
    judged = watch.numbers([*CALM, 0.7, 0.7])
    assert (judged[-1].state, judged[-1].direction) == ("alarm", -1)


@pytest.mark.parametrize(
    ("begins", "found"),
    [
        ((8, 8.01, 8.02), ["suspect"] * 3),
        ((8, 8.01, 9), ["suspect", "suspect", "alarm"]),
        ((8, 9, 9.01), ["suspect", "alarm", "alarm"]),
        ((7.98, 8.01, 8.02), ["suspect"] * 3),  # midnight is no other night
        ((8, 8.6, 9), ["suspect", "alarm", "alarm"]),
    ],
)
def test_a_night_does_not_confirm_itself(begins: tuple[float, ...], found: list[str]) -> None:
    judged = watch.numbers([*CALM, 1.3, 1.3, 1.3], begins=[*range(8), *begins])
    assert [each.state for each in judged[8:]] == found
    assert {each.began for each in judged[8:]} == {8}


def test_a_bad_night_is_dismissed_with_all_its_runs_and_joins_the_baseline_once() -> None:
    judged = watch.numbers([*CALM, 1.15, 1.2, 1.0, 1.0], begins=[*range(8), 8, 8.01, 9, 10])
    assert [each.state for each in judged[8:]] == ["dismissed", "dismissed", "usual", "usual"]
    assert judged[-1].band.n == len(CALM) + 2  # the night counts once


def test_it_takes_less_to_confirm_than_to_suspect() -> None:
    logs = np.random.default_rng(1).normal(0, 0.03, 20)
    high, middle, sd = watch.band(logs).high, logs.mean(), logs.std(ddof=1)
    confirming = float(np.exp(middle + stats.t.ppf(0.99, 19) * sd * np.sqrt(1 + 1 / 20)))
    between, below = (high + confirming) / 2, confirming * 0.99
    assert states([*np.exp(logs), between])[-1] == "usual"
    assert states([*np.exp(logs), 1.01 * high, between])[-1] == "alarm"
    assert states([*np.exp(logs), 1.01 * high, below])[-2:] == ["dismissed", "usual"]


def test_up_and_then_down_is_no_confirmation() -> None:
    assert states([*CALM, 1.3, 0.7]) == ["learning"] * 5 + ["usual"] * 3 + ["dismissed", "suspect"]


def test_an_alarm_stays_until_it_comes_back_or_is_accepted() -> None:
    slow = [1.3] * 40
    assert set(states([*CALM, *slow])[-39:]) == {"alarm"}
    assert states([*CALM, *slow, 1.0])[-1] == "usual"
    accepted = states([*CALM, *slow], resets=(len(CALM),))
    assert accepted[len(CALM) :] == ["learning"] * 5 + ["usual"] * 35


def test_a_slow_drift_is_found_since_the_baseline_stands_still() -> None:
    rng = np.random.default_rng(5)
    values = list(np.exp(0.003 * np.arange(90) + rng.normal(0, 0.01, 90)))
    assert "alarm" in states(values)
    assert "alarm" not in states(values[:25])


def test_two_modes_are_noise_and_not_alarms() -> None:
    rng = np.random.default_rng(7)
    values = list(np.exp(rng.normal(0, 0.01, 120) + 0.06 * (rng.random(120) < 0.3)))
    assert states(values).count("alarm") == 0


def test_a_noisy_series_is_listed_and_never_alarmed() -> None:
    rng = np.random.default_rng(2)
    found = states([*np.exp(rng.normal(0, 0.3, 30)), 9.0, 9.0])
    assert set(found[8:]) == {"noisy"}


def masks(word: str, n_cells: int = 10) -> Masks:
    return Masks(frozenset(word), n_cells, n_cells)


def test_masks_that_never_changed_may_not_change() -> None:
    found = watch.masks([masks("a"), masks("a"), masks("b"), masks("b")])
    assert [each.state for each in found] == ["learning", "usual", "suspect", "alarm"]
    again = watch.masks([masks("a"), masks("a"), masks("b"), masks("a")])
    assert [each.state for each in again] == ["learning", "usual", "dismissed", "usual"]


def test_where_masks_differ_from_run_to_run_the_count_of_cells_is_watched() -> None:
    wavering = [masks("ab"), masks("cd", 11), masks("e", 10), masks("f", 12)]
    assert [each.state for each in watch.masks(wavering)][1:] == ["usual"] * 3
    found = watch.masks([*wavering, masks("g", 14), masks("h", 14), masks("i", 5)])
    assert [(each.state, each.direction) for each in found[-3:]] == [("suspect", 1), ("alarm", 1), ("suspect", -1)]


def test_agreement_that_gets_worse() -> None:
    found = watch.agreements(["equivalent", "identical", "equivalent", "different", "different", "close"])
    states_ = [each.state for each in found]
    assert states_ == ["learning", "dismissed", "usual", "suspect", "alarm", "alarm"]
    assert found[-1].direction == -1


@pytest.mark.parametrize(("kind", "most"), [("clean", 0.002), ("heavy", 0.002)])
def test_false_alarms_after_confirmation_are_rare(kind: str, most: float) -> None:
    rng, shape = np.random.default_rng(11), (20_000, 20)
    sd = 0.02
    draw = (lambda shape: rng.normal(0, sd, shape)) if kind == "clean" else (
        lambda shape: sd * rng.standard_t(3, shape) / np.sqrt(3)
    )  # fmt: skip
    expected = watch.band(draw(shape))
    night, again = draw((2, shape[0]))
    beyond = watch.beyond(expected, night)
    assert ((beyond != 0) & (watch.beyond(expected, again, beyond) == beyond)).mean() <= most
    slower = [watch.beyond(expected, draw(shape[:1]) + np.log(1.10)) > 0 for _ in range(3)]
    assert np.mean(slower) >= 0.80


def test_the_rule_can_be_changed() -> None:
    assert watch.numbers([1.0] * 6, rule=Rule(learning=2))[2].state == "usual"


def test_the_usual_runs_are_those_since_the_last_reset_without_what_is_suspect() -> None:
    assert watch.usual([*CALM, 2.0, 2.0, 2.0]) == [*range(8)]
    assert watch.usual([*CALM, 2.0, 1.0]) == [*range(10)]  # dismissed: it was noise
    assert watch.usual([*CALM, *CALM], {8}) == [*range(8, 16)]
    assert watch.usual([*CALM, 2.0, 2.0, 2.1], {8}) == [8, 9, 10]
    assert watch.usual([]) == []
