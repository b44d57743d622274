"""Energy of repeated calls by the chips' own counters; a pass of its own, in a window long enough for them.

A counter says what a chip drew, not the wall: no power supply, no disk, no fan. Counters of data-centre GPUs
look at a quarter of the time and are written every 100 ms (arXiv 2312.02741), hence windows of at least 5 s.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.measure import rows
from harness.measure.block import Bench, now
from harness.plan.cases import Task
from harness.schema import Sample

POWERCAP = Path("/sys/class/powercap")
# The kernel's counter is 32 bits wide. In AMD's units of 15.3 uJ it starts again after 66 kJ: a minute at 1 kW.
READ_EVERY_S = 30.0


class Gpu(Protocol):
    """A GPU that counts its energy in J since some instant; None where it does not."""

    def energy_j(self) -> float | None: ...


@dataclass(frozen=True)
class EnergySource:
    """Counters that are read together, and a name for what they cover."""

    method: str
    counters: tuple[Callable[[], float | None], ...]

    def energy_j(self) -> float | None:
        """Their sum in J since some instant; None if one of them does not tell."""
        read = [counter() for counter in self.counters]
        return None if None in read else math.fsum(read)


def find(gpu: Gpu | None = None, device: str = "cpu", powercap: Path = POWERCAP) -> EnergySource | None:
    """What can be read here for work on this device; None if nothing, or if an accelerator's own part is missing.

    A GPU's calls keep the processor busy too, so its packages are added where they can be read (since Linux
    5.10 by root alone); the method says so. macOS tells only root, so there is no source.
    """
    zones = _rapl_zones(powercap)
    names = ["rapl " + "+".join(zone.name for zone in zones)] if zones else []
    counters: list[Callable[[], float | None]] = [zone.energy_j for zone in zones]
    if gpu is not None or device != "cpu":
        if gpu is None or gpu.energy_j() is None:
            return None
        names, counters = ["nvml gpu", *names], [gpu.energy_j, *counters]
    return EnergySource(" + ".join(names), tuple(counters)) if counters else None


def run(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """One window of calls, or a row that tells why there is none."""
    source = find(bench.gpu, bench.device)
    empty = rows.good(row, now("energy", 0, 0.0), "call")
    if source is None:
        why = "no energy counter of this device can be read here"
        yield empty | {"status": "skipped", "elapsed_s": None, "error_message": why}
        return
    yield empty | energy(bench.call(task.case), source, bench.sync)


def energy(
    call: Callable[[], object],
    source: EnergySource,
    sync: Callable[[], None],
    window_s: float = 5.0,
    idle_s: float = 10.0,
    clock_s: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Idle first, then call until the window is long enough; returns the energy columns of the whole window.

    energy_j is what the window took above idle, and may come out below zero where the calls draw less than
    the counters' noise. The joules are null where a counter stopped telling in between.
    """
    sync()
    idle_s, idle_j = _spent(source, lambda: sleep(idle_s), clock_s)
    n_calls = 0

    def fill() -> None:
        nonlocal n_calls
        until_s = clock_s() + window_s
        while n_calls == 0 or clock_s() < until_s:
            call()
            sync()
            n_calls += 1

    with _read_now_and_then(source):
        elapsed_s, gross_j = _spent(source, fill, clock_s)
    idle_power_w = None if idle_j is None else idle_j / idle_s
    known = gross_j is not None and idle_power_w is not None
    return {
        "elapsed_s": elapsed_s,
        "n_calls": n_calls,
        "energy_gross_j": gross_j,
        "energy_j": gross_j - idle_power_w * elapsed_s if known else None,
        "idle_power_w": idle_power_w,
        "energy_class": "sensor",
        "energy_method": source.method,
    }


def _spent(source: EnergySource, work: Callable[[], None], clock_s: Callable[[], float]) -> tuple[float, float | None]:
    """How long the work took, and the energy meanwhile."""
    before_j, begin_s = source.energy_j(), clock_s()
    work()
    end_s, after_j = clock_s(), source.energy_j()
    return end_s - begin_s, None if before_j is None or after_j is None else after_j - before_j


@contextmanager
def _read_now_and_then(source: EnergySource) -> Iterator[None]:
    """Read the counters in a thread, so that none starts again twice unseen inside one long call."""
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


class _Zone:
    """One energy counter of the kernel's powercap tree that goes on where the hardware's starts again."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._file = folder / "energy_uj"
        self._values = int((folder / "max_energy_range_uj").read_text()) + 1  # it counts from 0 to the range
        self._last_uj, self._total_uj = int(self._file.read_text()), 0
        self._lock = threading.Lock()

    def energy_j(self) -> float | None:
        with self._lock:
            try:
                now_uj = int(self._file.read_text())
            except OSError:  # the processor was taken offline
                return None
            self._total_uj += (now_uj - self._last_uj) % self._values
            self._last_uj = now_uj
            return self._total_uj / 1e6


def _rapl_zones(powercap: Path) -> list[_Zone]:
    """The processors' packages and their memory; empty where one of them may not be read.

    Left out: core and uncore are inside the package, psys contains it, intel-rapl-mmio is the same package again.
    """
    zones = []
    try:
        for folder in sorted(powercap.glob("intel-rapl:*")):
            name = (folder / "name").read_text().strip()
            if name == "dram":  # not part of the package that it hangs under
                package = powercap / folder.name.rpartition(":")[0] / "name"
                name = package.read_text().strip().replace("package", "dram")
            elif not name.startswith("package"):
                continue
            zones.append(_Zone(folder, name))
    except OSError:
        return []
    return zones
