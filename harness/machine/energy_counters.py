"""Counters of energy in the chips: a GPU's by its driver, the processors' by the kernel; and the idle power.

A counter measures a chip, not the wall: no power supply, no disk, no fan.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.machine.accelerators import Accelerator, Monitor

T = TypeVar("T")

POWERCAP = Path("/sys/class/powercap")
IDLE_S = 10.0


@dataclass(frozen=True)
class EnergySource:
    """Counters that are read together, and the name of the parts that they measure."""

    method: str
    counters: tuple[Callable[[], float | None], ...]

    def energy_j(self) -> float | None:
        """Their sum in J since some instant; None if one of them cannot be read."""
        read = [counter() for counter in self.counters]
        known = [joules for joules in read if joules is not None]
        return math.fsum(known) if len(known) == len(read) else None


def find(accelerator: Accelerator, monitor: Monitor | None = None, powercap: Path = POWERCAP) -> EnergySource | None:
    """Find the counters for work on this kind of device; None if there is none, or if a GPU's own is missing.

    A GPU's calls keep the processor busy too, so its packages are added where they can be read (since Linux 5.10 by
    root alone) and named in the method. macOS reports energy to root only, so there is no source.
    """
    zones = _rapl_zones(powercap)
    names = ["rapl " + "+".join(zone.name for zone in zones)] if zones else []
    counters: list[Callable[[], float | None]] = [zone.energy_j for zone in zones]
    if not accelerator.is_host:
        if monitor is None or monitor.energy_j() is None:
            return None
        names, counters = [f"{monitor.name} gpu", *names], [monitor.energy_j, *counters]
    return EnergySource(" + ".join(names), tuple(counters)) if counters else None


def idle_power_w(
    source: EnergySource,
    span_s: float = IDLE_S,
    clock_s: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> float | None:
    """Mean power in W over a span of rest; None where a counter cannot be read.

    To be called before this process first uses the device: afterwards its clocks stay up.
    """
    _, elapsed_s, energy_j = spent(source, lambda: sleep(span_s), clock_s)
    return None if energy_j is None else energy_j / elapsed_s


def spent(source: EnergySource, work: Callable[[], T], clock_s: Callable[[], float]) -> tuple[T, float, float | None]:
    """Call work; returns its result, its duration in s and its energy in J."""
    before_j, begin_s = source.energy_j(), clock_s()
    outcome = work()
    end_s, after_j = clock_s(), source.energy_j()
    return outcome, end_s - begin_s, None if before_j is None or after_j is None else after_j - before_j


class _Zone:
    """One energy counter of the kernel's powercap tree, continued where the hardware's overflows."""

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
