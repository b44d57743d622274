import itertools

import pytest

from harness import timing


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
    return list(timing.repetitions("timed", n, machine.work, sync or machine.sync, machine.clock_ns, lambda: 7.0))


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
    for repetition in timing.repetitions("warmup", 3, machine.work, machine.sync, machine.clock_ns):
        machine.now_ns += 5_000_000_000
        seen.append(repetition)
    assert [r.elapsed_s for r in seen] == pytest.approx([0.251] * 3)
    assert [(r.role, r.index, r.outcome) for r in seen] == [("warmup", i, "masks") for i in range(3)]


def test_the_next_repetition_waits_to_be_asked_for() -> None:
    machine = Machine()
    running = timing.repetitions("timed", 5, machine.work, machine.sync, machine.clock_ns)
    list(itertools.islice(running, 2))
    assert machine.events.count("work") == 2


def test_the_wall_clock_is_only_a_label() -> None:
    backwards = iter([100.0, 50.0])
    machine = Machine()
    done = timing.repetitions("timed", 2, machine.work, machine.sync, machine.clock_ns, lambda: next(backwards))
    assert [(r.started_at_unix_s, round(r.elapsed_s, 3)) for r in done] == [(100.0, 0.251), (50.0, 0.251)]
