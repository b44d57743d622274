"""The simulations of docs/statistics.md at the size of a test: they run, and what the rules promise they keep."""

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest

from harness.stats import watch
from tests.conftest import REPOSITORY
from tests.rng import RNG

SCRIPTS = (
    "ab_power", "alarm_errors", "claims", "compare_errors", "interval_coverage", "ranking_errors", "scaling_claims",
    "tune_choices",
)  # fmt: skip


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts/benchmarks"))
    return importlib.import_module(request.param)


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("script", [name], indirect=True, ids=[name])


def rng() -> np.random.Generator:
    return np.random.default_rng(21)


@pytest.mark.parametrize("script", SCRIPTS, indirect=True, ids=SCRIPTS)
def test_every_script_writes_its_tables(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script.__name__, "--quick"])
    script.main()
    output = capsys.readouterr().out
    assert output.startswith("seed ")
    rows = [line for line in output.splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert "nan" not in output


@of("compare_errors")
@pytest.mark.parametrize("cases", [1, 10])
def test_an_unchanged_machine_is_rarely_called_changed(script: ModuleType, cases: int) -> None:
    """By any design, on the machines where a run's luck is largest."""
    for design in script.DESIGNS:
        for machine in script.noise.grid((0.05,), (0, 0.10), (0.05,)):
            found = script.rates(design, rng(), machine, 800 if cases == 1 else 300, cases)
            assert found.wrong <= (0.065 if cases == 1 else 0.075), (design, machine)
            assert not found.held < 0.92, (design, machine)


@of("compare_errors")
def test_a_change_is_found_by_what_is_said_to_find_it(script: ModuleType) -> None:
    found = {design.name: script.rates(design, rng(), script.TYPICAL, 500, 1, 0.10) for design in script.DESIGNS}
    assert found["one run a side, no history"].slower == 0
    assert found["12 pairs of interleaved runs"].slower > 0.95
    assert found["5 days a side, 10 days of history"].slower > 0.95


@of("ab_power")
@pytest.mark.parametrize("call_s", [0.3, 2.0])
def test_half_an_hour_finds_a_tenth_and_shows_sameness(script: ModuleType, call_s: float) -> None:
    for machine in script.noise.grid((0.05,), (0, 0.05), (0,)):
        assert script.rates(rng(), machine, call_s, 0.10, 200).slower >= 0.9, machine
        same = script.rates(rng(), machine, call_s, 0.0, 200)
        assert same.same >= 0.8, machine
        assert same.slower + same.faster <= 0.07, machine


@of("scaling_claims")
def test_predictions_hold_and_a_line_through_a_staircase_is_noticed(script: ModuleType) -> None:
    for device in script.DEVICES[:4]:
        machine = script.Machine(process=0.02, call=0.015)
        assert min(script.coverage(rng(), device, machine, 400)) >= 0.92, device
        assert script.refusals(rng(), device, machine, True, 60)[0] >= 0.9, device
        assert script.refusals(rng(), device, machine, False, 60)[0] <= 0.1, device


@of("ranking_errors")
def test_equal_devices_rarely_have_a_fastest(script: ModuleType) -> None:
    for field in script.FIELDS[:3]:
        for machine in script.noise.grid((0.05,), (0.10,), (0.05,)):
            assert script.sole_fastest(field, rng(), machine, 400) <= 0.07, (field, machine)


@of("tune_choices")
@pytest.mark.parametrize("name", ["2 parts, none does anything", "2 parts, one 1.5"])
def test_a_search_rarely_keeps_what_does_nothing(script: ModuleType, name: str) -> None:
    gains = script.SEARCHES[name]
    found = [
        script.answer(rng_, script.Machine(process=0.02), gains) for rng_ in map(np.random.default_rng, range(150))
    ]
    assert np.mean(["b" in parts for parts in found]) <= 0.10
    assert np.mean(["a" in parts for parts in found]) >= 0.95 or gains["a"] == 1
    assert np.mean([bool(parts) for parts in found]) <= 0.05 or gains["a"] > 1


@of("alarm_errors")
@pytest.mark.parametrize("sd", [0.02, 0.08])
def test_white_noise_rarely_rings(script: ModuleType, sd: float) -> None:
    for shape in script.noise.SHAPES[:3]:
        alarms = script.first_alarms(script.white(shape, sd).nights(rng(), 600))
        assert (alarms >= 0).mean() <= 0.05, shape


@of("alarm_errors")
def test_the_simulated_bookkeeping_is_that_of_the_program(script: ModuleType) -> None:
    """The same nights, series by series; suspect ones are measured again at once."""
    draw, n = rng(), 20
    nights = [
        0.03 * draw.standard_normal((2, n))
        + 0.12 * (draw.random(n) < 0.1)
        + 0.15 * (draw.random(n) < 0.5) * (night > 40)
        for night in range(60)
    ]
    found = script.first_alarms(iter([(both[0], both[1]) for both in nights]))
    for series in range(n):
        values: list[float] = []
        begins: list[float] = []
        judged: list[watch.Judgement] = []
        for night, both in enumerate(nights):
            for again, value in enumerate(both[:, series]):
                if again and judged[-1].state != watch.SUSPECT:
                    break
                values.append(float(np.exp(value)))
                begins.append(night + again / 100)
                judged = watch.numbers(values, begins=begins)
        alarms = [int(begin) for begin, each in zip(begins, judged, strict=True) if each.state == watch.ALARM]
        assert found[series] == (alarms[0] if alarms else -1)
    assert 0 < (found >= 0).mean() < 1


@pytest.mark.parametrize("run", ["first", "second"])
def test_each_test_draws_the_same_numbers(run: str) -> None:
    """Whichever ran before it: a failure can be repeated, and none is due to luck."""
    assert RNG.random() == np.random.default_rng(0).random(), run
