"""The energy pass: energy of repeated calls by the chips' own counters, in windows long enough for them.

Counters of data-centre GPUs sample a quarter of the time and are written every 100 ms (arXiv 2312.02741). Windows are
therefore at least 5 s long, and there are several, so that their spread is known.

The gross energy is the measured energy. The energy above idle depends on the definition of idle: a process that holds
a GPU keeps its clocks up (122 W on an H200), so idle is measured before this process first uses the device.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from harness.machine import energy_counters
from harness.machine.energy_counters import EnergySource
from harness.measure import rows
from harness.measure.block import Bench, now
from harness.plan.cases import Task
from harness.schema import PASSES, Sample, Status

# The kernel's counter is 32 bits wide. In AMD's units of 15.3 uJ it starts again after 66 kJ: a minute at 1 kW.
READ_EVERY_S = 30.0
WINDOW_S = 5.0


def run(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """A row for each window of calls, or one row with the reason why there is none."""
    source = energy_counters.find(bench.accelerator, bench.gpu)
    if source is None:
        yield rows.bad(row, 0, Status.SKIPPED, None, "no energy counter of this device can be read here")
        return
    n_done = len(task.earlier_s)
    n_windows = PASSES["energy"].n_rows - n_done
    made = windows(bench.call(task.case), source, bench.sync, bench.idle_w, n_windows, WINDOW_S)
    for index, columns in enumerate(made, n_done):
        yield rows.good(row | columns, now("energy", index, columns["elapsed_s"]), "call")


def windows(
    call: Callable[[], object],
    source: EnergySource,
    sync: Callable[[], None],
    idle_w: float | None,
    n_windows: int,
    window_s: float,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Iterator[dict[str, Any]]:
    """Fill windows with calls, one after another; yields the energy columns of each.

    energy_gross_j: energy of the window in J; energy_j: its part above idle_w, below zero where the calls draw less
    than the counters' noise. Both are null where a counter stopped within the window.
    """
    sync()
    for _ in range(n_windows):
        with _read_now_and_then(source):
            n_calls, elapsed_s, gross_j = energy_counters.spent(
                source, lambda: _fill(call, sync, window_s, clock_s), clock_s
            )
        yield {
            "elapsed_s": elapsed_s,
            "n_calls": n_calls,
            "energy_gross_j": gross_j,
            "energy_j": None if gross_j is None or idle_w is None else gross_j - idle_w * elapsed_s,
            "idle_power_w": idle_w,
            "energy_class": "sensor",
            "energy_method": source.method,
        }


def _fill(call: Callable[[], object], sync: Callable[[], None], window_s: float, clock_s: Callable[[], float]) -> int:
    """Call until the window is over, once at least; returns the number of calls."""
    n_calls, until_s = 0, clock_s() + window_s
    while n_calls == 0 or clock_s() < until_s:
        call()
        sync()
        n_calls += 1
    return n_calls


@contextmanager
def _read_now_and_then(source: EnergySource) -> Iterator[None]:
    """Read the counters in a thread, so that no counter overflows twice within one long call."""
    over = threading.Event()

    def read() -> None:
        while not over.wait(READ_EVERY_S):
            source.energy_j()

    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read)
        try:
            yield
        finally:
            over.set()
        reading.result()
