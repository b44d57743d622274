import itertools
import math
from collections.abc import Iterator

import pytest
from scipy import stats

from harness.measure import timing
from harness.stats import student


class Machine:
    """A fake device and clock: work is queued at once and takes its time when it is waited for."""

    def __init__(self) -> None:
        self.now_ns, self.queued_ns, self.events = 0, 0, list[str]()

    def clock_ns(self) -> int:
        self.events.append("clock")
        return self.now_ns

    def sync(self) -> None:
        self.events.append("sync")
        self.now_ns += self.queued_ns
        self.queued_ns = 0

    def work(self) -> str:
        self.events.append("work")
        self.now_ns += 1_000_000
        self.queued_ns = 250_000_000
        return "masks"


def measured(machine: Machine, n: int, sync=None) -> list[timing.Repetition[str]]:
    return list(repeated(machine, n, "timed", sync or machine.sync))


def repeated(
    machine: Machine, n: int, role: str = "timed", sync=None, **more: object
) -> Iterator[timing.Repetition[str]]:
    return timing.repetitions(
        role, timing.exactly(n), machine.work, sync or machine.sync, clock_ns=machine.clock_ns, **more
    )


def test_the_queue_is_awaited_on_both_sides_of_the_clock() -> None:
    machine = Machine()
    measured(machine, 2)
    assert machine.events == ["sync", "clock", "work", "sync", "clock"] * 2


def test_queued_work_counts() -> None:
    assert [r.elapsed_s for r in measured(Machine(), 3)] == pytest.approx([0.251] * 3)


def test_what_was_queued_before_does_not_count() -> None:
    machine = Machine()
    machine.queued_ns = 9_000_000_000
    assert measured(machine, 1)[0].elapsed_s == pytest.approx(0.251)


def test_without_sync_the_time_would_be_wrong() -> None:
    assert measured(Machine(), 1, sync=lambda: None)[0].elapsed_s == pytest.approx(0.001)


def test_what_the_consumer_does_between_repetitions_is_not_timed() -> None:
    machine, seen = Machine(), []
    for repetition in repeated(machine, 3, "warmup"):
        machine.now_ns += 5_000_000_000
        seen.append(repetition)
    assert [r.elapsed_s for r in seen] == pytest.approx([0.251] * 3)
    assert [(r.role, r.index, r.outcome) for r in seen] == [("warmup", i, "masks") for i in range(3)]


def test_the_next_repetition_waits_to_be_asked_for() -> None:
    machine = Machine()
    running = repeated(machine, 5)
    list(itertools.islice(running, 2))
    assert machine.events.count("work") == 2


def test_the_wall_clock_is_only_a_label() -> None:
    backwards = iter([100.0, 50.0])
    machine = Machine()
    done = repeated(machine, 2, wall_s=lambda: next(backwards))
    assert [(r.started_at_unix_s, round(r.elapsed_s, 3)) for r in done] == [(100.0, 0.251), (50.0, 0.251)]


def test_the_machine_is_looked_at_outside_the_clock() -> None:
    machine = Machine()

    def observe():
        machine.events.append("look")
        machine.now_ns += 40_000_000_000
        return lambda: machine.events.append("look again") or {"flags": "load"}

    [done] = repeated(machine, 1, observe=observe)
    assert machine.events == ["look", "sync", "clock", "work", "sync", "clock", "look again"]
    assert (round(done.elapsed_s, 3), done.observed) == (0.251, {"flags": "load"})


def test_only_the_last_repetition_says_why_it_is_the_last() -> None:
    assert [r.stop_reason for r in repeated(Machine(), 3)] == [None, None, "fixed_n"]
    assert list(repeated(Machine(), 0)) == []


# ------------------------------------------------------------------ when it is enough


def run_until(enough: timing.Enough, times_s: Iterator[float]) -> tuple[int, str | None]:
    """How many of these durations are taken, and why no more."""
    taken: list[float] = []
    while (reason := enough(taken)) is None:
        taken.append(next(times_s))
    return len(taken), reason


def noisy(cv: float) -> Iterator[float]:
    """Durations around 1 s whose standard deviation is known: pairs on either side."""
    return (1 + sign * cv for _ in itertools.count() for sign in (-1, 1))


def rule(**changes: float) -> timing.Precise:
    return timing.Precise(**({"target": 0.02, "n_min": 5, "n_max": 50, "time_cap_s": 300} | changes))


def test_precision_is_the_relative_interval_of_the_mean() -> None:
    times_s = [1.0, 1.1, 0.9, 1.05]
    low, high = stats.t.interval(0.95, 3, loc=sum(times_s) / 4, scale=stats.sem(times_s))
    assert timing.precision(times_s) == pytest.approx((high - low) / 2 / (sum(times_s) / 4), rel=1e-4)
    assert timing.precision([1.0]) is None
    assert timing.precision([0.0, 0.0]) == math.inf


@pytest.mark.parametrize("df", [1, 2, 5, 10, 11, 15, 30, 49, 999])
def test_students_t(df: int) -> None:
    assert student.quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=2e-4)


def test_quiet_times_stop_at_the_least_number() -> None:
    assert run_until(rule(), noisy(0.002)) == (5, "precision")


def test_noisier_times_are_repeated_until_the_mean_is_known() -> None:
    n, reason = run_until(rule(), noisy(0.03))
    assert reason == "precision"
    assert 8 <= n <= 14


def test_very_noisy_times_stop_at_the_most() -> None:
    assert run_until(rule(n_max=12), noisy(0.5)) == (12, "n_max")


def test_times_that_wander_stop_on_a_plateau() -> None:
    wandering = (1 + 0.04 * i for i in itertools.count())
    n, reason = run_until(rule(), wandering)
    assert reason == "plateau"
    assert n < 50


def test_the_time_cap_leaves_three() -> None:
    assert run_until(rule(time_cap_s=10), itertools.repeat(60.0)) == (3, "time_cap")
    assert run_until(rule(time_cap_s=10, n_min=2), noisy(0.5))[1] == "time_cap"


def test_warm_ups_go_on_until_two_are_alike() -> None:
    assert run_until(timing.settled(1, 5), iter([9.0, 2.0, 1.05, 1.0, 1.0])) == (4, "settled")
    assert run_until(timing.settled(2, 3), iter([9.0, 4.0, 1.0])) == (3, "n_max")
    assert run_until(timing.settled(1, 0), iter([9.0])) == (1, "fixed_n")
    assert run_until(timing.settled(0, 0), iter([])) == (0, "fixed_n")
