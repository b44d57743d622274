"""Interference around a repetition: foreign load, heat, quotas, low clocks, battery, sleep.

    finish = watch.begin()   right before the clock starts
    …                        the timed region
    columns = finish()       right after the clock stopped

Nothing is dropped because of a flag. A missing flag means nothing where its detector cannot read its source: those
flags are listed as unwatched. All readings are outside the clock and fast: the files are found once, and slow readings
are made every two seconds at most.
"""

from __future__ import annotations

import math
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import psutil

from harness.machine import linux, virtualization
from harness.machine.accelerators.base import LIVE, Monitor
from harness.machine.probe_io import Sources

T = TypeVar("T")

# The flags of a sample in their order; the view blocks adds drift.
FLAGS = ("load", "gpu_load", "throttled", "low_clock", "battery", "thermal", "suspend", "clock_jump")

# More foreign use than this is load, in processors; with one processor, a tenth of it. It does not grow with the
# machine: the threads of a network wait for the slowest of their cores. Normal activity stays below it: the parent
# and Ray's daemons use 0.01 to 0.06 processors, and a server with 16 at rest up to 0.1.
LOAD_SHARE, LOAD_PROCESSORS = 0.10, 0.15
# The kernel counts time in steps of 10 ms: two of them are no evidence, and a span of a few is too short.
TICKS_S, MIN_SPAN_S = 0.02, 0.05
LOW_CLOCK = 0.75  # of the nominal clock, as in NVIDIA's nvbench
# A GPU at its power limit (sw_power_cap) is loaded as its maker intended, like any big GPU with a dense network;
# the limit is stored with the environment. If the effect is large, low_clock is raised.
THROTTLED = frozenset(("hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake"))
SUSPEND_S = 0.5
CLOCK_JUMP_S, CLOCK_DRIFT = 1.0, 0.001  # NTP slews a clock by 0.05 % at most
KEEP_S = 2.0  # how long a slow reading stays valid
LOOK_S = 1.0


def _busy_s() -> float:
    """CPU time of the whole machine in s, with stolen time; guests are part of user, waiting for disks is not counted.

    Linux measures how long a processor is idle, but only samples its other states, every 1 to 10 ms and all of them at
    the same instant: with 64 busy ones and 4 ms, two readings may differ by 0.25 s.
    """
    now_s = time.perf_counter()
    times = psutil.cpu_times()
    if sys.platform == "linux" and times.idle:  # gVisor shows zeros
        return _n_logical() * now_s - times.idle - getattr(times, "iowait", 0.0)
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def _own_cpu_s() -> float:
    """CPU time of this process and of its ended children in s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@cache
def _n_logical() -> int:
    """The number of processors in _busy_s(): in a container often the host's, unlike psutil.cpu_count()."""
    return len(psutil.cpu_times(percpu=True))


def _through_sleep_s() -> float:
    """A clock in s that continues while the machine sleeps; perf_counter stands still then."""
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW if sys.platform == "darwin" else time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Machine(Sources):
    """A machine with its counters and clocks, real or recorded."""

    busy_s: Callable[[], float] = _busy_s
    own_cpu_s: Callable[[], float] = _own_cpu_s
    awake_s: Callable[[], float] = time.perf_counter
    through_sleep_s: Callable[[], float] = _through_sleep_s
    wall_s: Callable[[], float] = time.time
    mac_battery: Callable[[], Any] = psutil.sensors_battery
    n_logical: int = field(default_factory=_n_logical)


class Detector(NamedTuple):
    """A detector of one kind of interference, and its flag; seen is None where it cannot read its source."""

    name: str
    flag: str
    seen: bool | None


class Watch:
    """Reads the machine's state before and after each repetition and reports interference.

    gpu: the monitor of the accelerator that computes, if it has one. is_host: whether the host itself computes.
    """

    def __init__(self, gpu: Monitor | None = None, machine: Machine | None = None, is_host: bool = True) -> None:
        machine = self._machine = machine or Machine()
        self._gpu = gpu
        self._has_gpu = gpu is not None or not is_host
        self._gpu_max_mhz = gpu.facts()["gpu_max_mhz"] if gpu else None
        cpus = machine.paths("sys/devices/system/cpu/cpu[0-9]*")
        self._throttle_counts = machine.paths("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
        self._quotas = [machine.root / path for path in virtualization.cpu_statistics(machine)]
        # /proc/cpuinfo would give a clock too, but a virtual machine shows a constant there.
        clocks = [(cpu / "cpufreq/scaling_cur_freq", linux.nominal_khz(machine, cpu)) for cpu in cpus]
        self._clocks = [(path, nominal_khz) for path, nominal_khz in clocks if path.exists()]
        self._sensors = linux.cpu_sensors(machine)
        self._on_battery = _Remembered(lambda: on_battery(machine), machine.awake_s)
        self._mac_is_slowed = _Remembered(lambda: mac_is_slowed(machine), machine.awake_s)
        self._mac_is_hot = _Remembered(lambda: mac_is_hot(machine), machine.awake_s)

    def begin(self) -> Callable[[], dict[str, Any]]:
        """Take the first readings; the returned function takes the second ones and gives the columns of the sample."""
        before = self._counters()

        def finish() -> dict[str, Any]:
            after = self._counters()
            return self._columns({name: after[name] - before[name] for name in before})

        return finish

    def _counters(self) -> dict[str, float]:
        machine = self._machine
        quotas = [_quota(path) for path in self._quotas]
        return {
            "awake_s": machine.awake_s(),
            "through_sleep_s": machine.through_sleep_s(),
            "wall_s": machine.wall_s(),
            "busy_s": machine.busy_s(),
            "own_s": machine.own_cpu_s(),
            "throttles": sum(_number(path) or 0 for path in self._throttle_counts),
            "stops": sum(n_stops for n_stops, _ in quotas),
            # Nested groups that are stopped at the same time are not counted twice.
            "stopped_s": max((stopped_s for _, stopped_s in quotas), default=0.0),
        }

    def _columns(self, span: dict[str, float]) -> dict[str, Any]:
        # The clocks first: they fall as soon as the work is over.
        clocks = [(khz, nominal_khz) for path, nominal_khz in self._clocks if (khz := _number(path)) is not None]
        share = foreign_share(span["busy_s"], span["own_s"], span["awake_s"], self._machine.n_logical)
        gpu: dict[str, Any] = self._gpu.live() if self._gpu else dict.fromkeys(LIVE)
        sensors = [milli_c for path in self._sensors if (milli_c := _number(path)) is not None]
        detectors = [*self._host_detectors(span, share, clocks), *(self._gpu_detectors(gpu) if self._has_gpu else ())]
        blind = [detector.name for detector in detectors if detector.seen is None]
        blind += ["temperature"] if not sensors else []
        blind += ["gpu_temperature"] if self._has_gpu and gpu["gpu_temperature_c"] is None else []
        raised = {detector.flag for detector in detectors if detector.seen}
        return {
            "flags": " ".join(flag for flag in FLAGS if flag in raised),
            "unwatched": " ".join(blind),
            "foreign_cpu_share": share,
            "throttled_s": span["stopped_s"] if self._quotas else None,
            "cpu_mhz": statistics.fmean(khz for khz, _ in clocks) / 1000 if clocks else None,
            "cpu_temperature_c": max(sensors) / 1000 if sensors else None,
            **gpu,
        }

    def _host_detectors(
        self, span: dict[str, float], share: float | None, clocks: Sequence[tuple[float, float | None]]
    ) -> Iterator[Detector]:
        yield Detector("load", "load", is_load(share, span["awake_s"], self._machine.n_logical))
        if self._machine.system == "darwin":
            yield Detector("throttled", "throttled", self._mac_is_slowed())
            yield Detector("thermal", "thermal", self._mac_is_hot())
        else:
            yield Detector("throttled", "throttled", span["throttles"] > 0 if self._throttle_counts else None)
            yield Detector("quota", "throttled", span["stops"] > 0 if self._quotas else None)
        yield Detector("low_clock", "low_clock", _is_low(clocks))
        yield Detector("battery", "battery", self._on_battery())
        asleep_s = span["through_sleep_s"] - span["awake_s"]
        jump_s = abs(span["wall_s"] - span["through_sleep_s"])
        yield Detector("suspend", "suspend", asleep_s > SUSPEND_S)
        yield Detector("clock_jump", "clock_jump", jump_s > CLOCK_JUMP_S + CLOCK_DRIFT * span["through_sleep_s"])

    def _gpu_detectors(self, live: dict[str, Any]) -> Iterator[Detector]:
        others, reasons = live["foreign_gpu_processes"], live["gpu_throttle"]
        yield Detector("gpu_load", "gpu_load", None if others is None else others > 0)
        yield Detector("gpu_throttled", "throttled", None if reasons is None else is_throttled(live))
        yield Detector("gpu_low_clock", "low_clock", self._gpu_is_low(live["gpu_mhz"]))

    def _gpu_is_low(self, mhz: float | None) -> bool | None:
        """Whether the GPU computes at a low clock; after the network it may be idle, and then a low clock is normal."""
        is_idle = self._gpu.is_idle() if self._gpu else None
        if mhz is None or self._gpu_max_mhz is None or is_idle is None:
            return None
        return mhz < LOW_CLOCK * self._gpu_max_mhz and not is_idle


def foreign_share(busy_s: float, own_s: float, elapsed_s: float, n_logical: int) -> float | None:
    """The share of all processors that others used over a span, from CPU times of the machine and of this program.

    None for a span that is too short, and where the machine's counters miss even this program's use (gVisor: zeros).
    """
    if elapsed_s < MIN_SPAN_S or busy_s + TICKS_S < own_s / 2:
        return None
    return max(0.0, busy_s - own_s) / (elapsed_s * n_logical)


def is_load(share: float | None, elapsed_s: float, n_logical: int) -> bool | None:
    """Whether others used enough of the machine to slow a repetition; None where that is unknown."""
    if share is None:
        return None
    return share * n_logical * elapsed_s > min(LOAD_SHARE * n_logical, LOAD_PROCESSORS) * elapsed_s + TICKS_S


def is_throttled(gpu: dict[str, Any]) -> bool:
    """Whether heat or the power supply limits this GPU."""
    return not THROTTLED.isdisjoint((gpu["gpu_throttle"] or "").split())


def wait_for_idle(
    limit_s: float,
    gpu: Monitor | None = None,
    machine: Machine | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Read the machine's state each second until it is idle and its GPU not too hot; at most limit_s.

    Returns how long it was not idle, in s: 0 if the first reading is idle, or if there is no time to read.
    """
    machine = machine or Machine()
    begin_s = look_s = machine.awake_s()
    while (left_s := begin_s + limit_s - look_s) >= MIN_SPAN_S:
        busy_s, own_s = machine.busy_s(), machine.own_cpu_s()
        sleep(min(LOOK_S, left_s))
        end_s = machine.awake_s()
        share = foreign_share(machine.busy_s() - busy_s, machine.own_cpu_s() - own_s, end_s - look_s, machine.n_logical)
        if not is_load(share, end_s - look_s, machine.n_logical) and not (gpu and is_throttled(gpu.live())):
            break
        look_s = end_s
    return look_s - begin_s


def on_battery(machine: Machine) -> bool | None:
    """Whether the machine runs on its battery; False without a battery. None where it does not report it."""
    if machine.system == "darwin":
        battery = machine.mac_battery()
        return battery is not None and battery.power_plugged is False
    if not machine.exists("sys/class/power_supply"):
        return None
    return linux.power_source(machine) == "battery"


def mac_is_slowed(machine: Machine) -> bool | None:
    """Whether macOS limits the processors' speed; Macs with Apple's chips report a limit only while there is one."""
    output = machine.run(["/usr/bin/pmset", "-g", "therm"])
    found = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", output or "")
    return None if not output else found is not None and int(found[1]) < 100


def mac_is_hot(machine: Machine) -> bool | None:
    """Whether thermal pressure of macOS is above nominal: 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""
    key = "com.apple.system.thermalpressurelevel"
    found = re.search(rf"{re.escape(key)}\s+(\d+)", machine.run(["/usr/bin/notifyutil", "-g", key]) or "")
    return int(found[1]) > 0 if found else None


class _Remembered(Generic[T]):
    """A slow reading that is reused for two seconds, so that it does not slow short repetitions."""

    def __init__(self, ask: Callable[[], T], now_s: Callable[[], float]) -> None:
        self._ask, self._now_s, self._asked_s = ask, now_s, -math.inf

    def __call__(self) -> T:
        now_s = self._now_s()
        if now_s - self._asked_s >= KEEP_S:
            self._answer, self._asked_s = self._ask(), now_s
        return self._answer


def _is_low(clocks: Sequence[tuple[float, float | None]]) -> bool | None:
    """Whether even the fastest processor is below its nominal clock; a mean would include idle ones."""
    parts = [khz / nominal_khz for khz, nominal_khz in clocks if nominal_khz]
    return max(parts) < LOW_CLOCK if parts else None


def _quota(path: Path) -> tuple[int, float]:
    """The number of stops of a control group by its quota so far, and their duration in s over all processors."""
    try:
        counts = {key: int(number) for key, number in re.findall(r"^(\w+) (\d+)$", path.read_text(), re.MULTILINE)}
    except OSError:
        return 0, 0.0
    # Version 2 counts in us, version 1 in ns; a group without a quota, such as the root, may have neither.
    stopped_s = counts.get("throttled_usec", 0) / 1e6 + counts.get("throttled_time", 0) / 1e9
    return counts.get("nr_throttled", 0), stopped_s


def _number(path: Path) -> float | None:
    """The number in a file of sysfs; None where a device does not answer. Unbuffered: there may be hundreds."""
    try:
        with open(path, "rb", buffering=0) as file:
            return float(file.read(64))
    except (OSError, ValueError):  # such as "<unsupported>"
        return None
