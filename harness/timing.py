"""Time one piece of work again and again; knows nothing of what the work is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Repetition(Generic[T]):
    """One timed call: when it began (wall clock), how long it took (monotonic clock), what came out."""

    role: str
    index: int
    started_at_unix_s: float
    elapsed_s: float
    outcome: T


def repetitions(
    role: str,
    n: int,
    work: Callable[[], T],
    sync: Callable[[], None],
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    wall_s: Callable[[], float] = time.time,
) -> Iterator[Repetition[T]]:
    """Call work n times: sync, clock, work, sync, clock.

    Without the first sync the work would be charged for what was queued before it; without the second,
    an accelerator's queue would be left running when the clock stops. Whatever the consumer does
    between two repetitions is outside both.
    """
    for index in range(n):
        started_at_unix_s = wall_s()
        sync()
        begin_ns = clock_ns()
        outcome = work()
        sync()
        end_ns = clock_ns()
        yield Repetition(role, index, started_at_unix_s, (end_ns - begin_ns) / 1e9, outcome)
