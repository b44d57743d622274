"""Time one piece of work repeatedly until the times are enough; independent of the work."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# A function of the durations so far: the reason why they are enough, or None to continue.
Enough = Callable[[Sequence[float]], str | None]

SPREAD_MIN = 3  # the time cap leaves at least this many repetitions, so that a spread can be shown
PLATEAU_WINDOW = 8  # repetitions over which the precision must have improved …
PLATEAU_GAIN = 0.05  # … by this share, or more of them will not help (nvbench stops on such a plateau too)
SETTLED_SHARE = 0.10  # two warm-ups that differ by less have settled (pyperf's calibration)


@dataclass(frozen=True)
class Repetition(Generic[T]):
    """One timed call: its start (wall clock), its duration in s (monotonic clock), its result.

    stop_reason is set on the last one only; precision is that of all so far; observed: facts from before and after.
    """

    role: str
    index: int
    started_at_unix_s: float
    elapsed_s: float
    outcome: T
    stop_reason: str | None = None
    precision: float | None = None
    observed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Precise:
    """Repeat until the relative half-width of the mean's 95 % confidence interval is below target.

    At least n_min, unless time_cap_s of measured time is spent first; at most n_max. It also ends on a plateau, where
    the interval no longer shrinks because the machine itself is unstable.
    """

    target: float
    n_min: int
    n_max: int
    time_cap_s: float

    def __call__(self, times_s: Sequence[float]) -> str | None:
        n = len(times_s)
        known = precision(times_s)
        if known is not None and n >= self.n_min:
            if known <= self.target:
                return "precision"
            earlier = times_s[:-PLATEAU_WINDOW]
            before = precision(earlier)
            if before is not None and len(earlier) >= self.n_min and known > (1 - PLATEAU_GAIN) * before:
                return "plateau"
        if n >= self.n_max:
            return "n_max"
        if n >= min(SPREAD_MIN, self.n_min) and sum(times_s) >= self.time_cap_s:
            return "time_cap"
        return None


def exactly(n: int) -> Enough:
    """Repeat n times, as the article did."""
    return lambda times_s: "fixed_n" if len(times_s) >= n else None


def settled(n_min: int, n_max: int) -> Enough:
    """Repeat n_min times, then until two successive calls take about as long, but at most n_max times."""

    def enough(times_s: Sequence[float]) -> str | None:
        n = len(times_s)
        if n < n_min:
            return None
        if n >= n_max:
            return "n_max" if n_max > n_min else "fixed_n"
        near = n >= 2 and abs(times_s[-1] - times_s[-2]) <= SETTLED_SHARE * times_s[-2]
        return "settled" if near else None

    return enough


def precision(times_s: Sequence[float]) -> float | None:
    """Half-width of the mean's 95 % confidence interval (Student's t) over the mean; None below two values."""
    n = len(times_s)
    if n < 2:
        return None
    from harness.stats.student import (
        quantile,
    )  # imports scipy, which the cold import counts only where an engine needs it

    half_width_s = quantile(n - 1) * statistics.stdev(times_s) / math.sqrt(n)
    mean_s = statistics.fmean(times_s)
    return half_width_s / mean_s if mean_s else math.inf


def repetitions(
    role: str,
    enough: Enough,
    work: Callable[[], T],
    sync: Callable[[], None],
    observe: Callable[[], Callable[[], dict[str, Any]]] = lambda: dict,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    wall_s: Callable[[], float] = time.time,
    earlier_s: Sequence[float] = (),
) -> Iterator[Repetition[T]]:
    """Call work until its times are enough: observe, sync, clock, work, sync, clock, observe.

    earlier_s: times of repetitions from before an interruption; they count, and are not repeated.

    The first sync keeps work that was queued before out of the time. The second waits until an accelerator's queue is
    empty before the clock stops. observe() reads the machine's state before the clock starts, and returns the function
    that reads it again after the clock has stopped. The consumer's work between two repetitions is outside both.
    """
    times_s = list(earlier_s)
    stop_reason = enough(times_s)
    while stop_reason is None:
        started_at_unix_s = wall_s()
        look_again = observe()
        sync()
        begin_ns = clock_ns()
        outcome = work()
        sync()
        end_ns = clock_ns()
        observed = look_again()
        times_s.append((end_ns - begin_ns) / 1e9)
        stop_reason = enough(times_s)
        yield Repetition(
            role, len(times_s) - 1, started_at_unix_s, times_s[-1], outcome, stop_reason, precision(times_s), observed
        )


def once(
    role: str,
    work: Callable[[], T],
    sync: Callable[[], None],
    observe: Callable[[], Callable[[], dict[str, Any]]] = lambda: dict,
) -> Repetition[T]:
    """One repetition."""
    [done] = repetitions(role, exactly(1), work, sync, observe)
    return done
