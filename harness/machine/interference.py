"""What else went on around a repetition: foreign load, heat, low clocks, battery, sleep.

    finish = watch.begin()   right before the clock starts
    …                        the timed region
    columns = finish()       right after the clock stopped

Nothing is dropped because of a flag. All readings are outside the clock and cheap: the files are found once, and what
only a slow question can tell is asked every two seconds at most.
"""

from __future__ import annotations

import math
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil

from harness.machine.accelerators.base import LIVE, Monitor
from harness.machine.probe_io import Sources

T = TypeVar("T")

# More foreign use than this is load: a tenth of the machine, but never more than half a logical processor. One busy
# process then counts everywhere (of 64 processors, a tenth alone would let six pass), and what is always there stays
# under it: our parent and Ray's daemons use 1 to 6 % of one processor.
LOAD_SHARE, LOAD_PROCESSORS = 0.10, 0.5
# The kernel counts in ticks of 10 ms: two of them are no evidence, and shorter spans tell nothing.
TICKS_S, MIN_SPAN_S = 0.02, 0.1
LOW_CLOCK = 0.75  # of what the maker promises, as in NVIDIA's nvbench
# A GPU that reaches its power limit (sw_power_cap) is loaded as its maker meant it, like any big GPU under a dense
# network; the limit is stored with the environment. If it costs much, low_clock says so.
THROTTLED = frozenset(("hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake"))
SUSPEND_S = 0.5
CLOCK_JUMP_S, CLOCK_DRIFT = 1.0, 0.001  # NTP slews a clock by 0.05 % at most
KEEP_S = 2.0  # how long the answer to a slow question is good
LOOK_S = 1.0
# Kernel drivers of processor sensors; the first input of each is the package, as hot as its hottest core.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")


def _busy_s() -> float:
    """CPU time of the whole machine, with what a hypervisor took from it; guests are in user, disks are no work."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def _own_cpu_s() -> float:
    """CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _n_logical() -> int:
    """Processors behind _busy_s(): in a container that is often the host's, which psutil.cpu_count() may not be."""
    return len(psutil.cpu_times(percpu=True))


def _through_sleep_s() -> float:
    """A clock that goes on while the machine sleeps; perf_counter stands still then."""
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


class Watch:
    """Looks at the machine before and after each repetition and says what else went on."""

    def __init__(self, gpu: Monitor | None = None, machine: Machine | None = None) -> None:
        machine = self._machine = machine or Machine()
        self._gpu = gpu
        self._gpu_max_mhz = gpu.facts()["gpu_max_mhz"] if gpu else None
        cpu = "sys/devices/system/cpu/cpu[0-9]*"
        self._throttle_counts = machine.paths(f"{cpu}/thermal_throttle/core_throttle_count")
        # /proc/cpuinfo would give a clock too, but a virtual machine shows a constant there.
        clocks = machine.paths(f"{cpu}/cpufreq/scaling_cur_freq")
        self._clocks = [(path, machine.number(path.with_name("base_frequency"))) for path in clocks]
        chips = machine.paths("sys/class/hwmon/hwmon*/name")
        self._sensors = [path.with_name("temp1_input") for path in chips if machine.text(path) in CPU_SENSORS]
        self._on_battery = _Remembered(lambda: on_battery(machine), machine.awake_s)
        self._mac_is_slowed = _Remembered(lambda: mac_is_slowed(machine), machine.awake_s)
        self._mac_is_hot = _Remembered(lambda: mac_is_hot(machine), machine.awake_s)

    def begin(self) -> Callable[[], dict[str, Any]]:
        """Take the first readings; what it returns takes the second ones and gives the columns of the sample."""
        before = self._counters()

        def finish() -> dict[str, Any]:
            after = self._counters()
            return self._columns({name: after[name] - before[name] for name in before})

        return finish

    def _counters(self) -> dict[str, float]:
        machine = self._machine
        return {
            "awake_s": machine.awake_s(),
            "through_sleep_s": machine.through_sleep_s(),
            "wall_s": machine.wall_s(),
            "busy_s": machine.busy_s(),
            "own_s": machine.own_cpu_s(),
            "throttles": sum(_number(path) or 0 for path in self._throttle_counts),
        }

    def _columns(self, span: dict[str, float]) -> dict[str, Any]:
        # The clocks first: they fall as soon as the work is over.
        clocks = [(khz, base_khz) for path, base_khz in self._clocks if (khz := _number(path)) is not None]
        share = foreign_share(span["busy_s"], span["own_s"], span["awake_s"], self._machine.n_logical)
        gpu = self._gpu.live() if self._gpu else dict.fromkeys(LIVE)
        sensors = [milli_c for path in self._sensors if (milli_c := _number(path)) is not None]
        asleep_s = span["through_sleep_s"] - span["awake_s"]
        jump_s = abs(span["wall_s"] - span["through_sleep_s"])
        flags = {
            "load": is_load(share, span["awake_s"], self._machine.n_logical),
            "gpu_load": (gpu["foreign_gpu_processes"] or 0) > 0,
            "throttled": is_throttled(gpu) or span["throttles"] > 0 or self._mac_is_slowed(),
            "low_clock": _is_low(clocks) or self._gpu_is_low(gpu["gpu_mhz"]),
            "battery": self._on_battery() is True,
            "thermal": self._mac_is_hot(),
            "suspend": asleep_s > SUSPEND_S,
            "clock_jump": jump_s > CLOCK_JUMP_S + CLOCK_DRIFT * span["through_sleep_s"],
        }
        return {
            "flags": " ".join(name for name, raised in flags.items() if raised),
            "foreign_cpu_share": share,
            "cpu_mhz": statistics.fmean(khz for khz, _ in clocks) / 1000 if clocks else None,
            "cpu_temperature_c": max(sensors) / 1000 if sensors else None,
            **gpu,
        }

    def _gpu_is_low(self, mhz: float | None) -> bool:
        """Whether the GPU computes at a low clock; once the network is through it may idle, and slow down rightly."""
        if self._gpu is None or mhz is None or self._gpu_max_mhz is None:
            return False
        return mhz < LOW_CLOCK * self._gpu_max_mhz and self._gpu.is_idle() is False


def foreign_share(busy_s: float, own_s: float, elapsed_s: float, n_logical: int) -> float | None:
    """What others used of all processors over a span, from the machine's and our own CPU time.

    None for a span that is too short, and where the machine's counters miss even our own use (gVisor shows zeros).
    """
    if elapsed_s < MIN_SPAN_S or busy_s + TICKS_S < own_s / 2:
        return None
    return max(0.0, busy_s - own_s) / (elapsed_s * n_logical)


def is_load(share: float | None, elapsed_s: float, n_logical: int) -> bool:
    """Whether others used so much of the machine that a repetition may have suffered."""
    if share is None:
        return False
    return share * n_logical * elapsed_s > min(LOAD_SHARE * n_logical, LOAD_PROCESSORS) * elapsed_s + TICKS_S


def is_throttled(gpu: dict[str, Any]) -> bool:
    """Whether heat or the power supply holds this GPU back."""
    return not THROTTLED.isdisjoint((gpu["gpu_throttle"] or "").split())


def wait_for_idle(
    limit_s: float,
    gpu: Monitor | None = None,
    machine: Machine | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Look at the machine, a second each time, until it is idle and its GPU not too hot; at most limit_s.

    Returns how long it was not idle: 0 if the first look finds it so, or if there is no time to look.
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
    """Whether the machine draws on its battery; None without one. A wireless mouse's battery is not the machine's."""
    if machine.system == "darwin":
        battery = machine.mac_battery()
        return None if battery is None else battery.power_plugged is False
    types = machine.paths("sys/class/power_supply/*/type")
    batteries = [path.parent for path in types if machine.text(path) == "Battery"]
    states = [machine.text(path / "status") for path in batteries if machine.text(path / "scope") != "Device"]
    return "Discharging" in states if states else None


def mac_is_slowed(machine: Machine) -> bool:
    """Whether macOS limits the processors' speed; Macs with Apple's chips tell a limit only while there is one."""
    if machine.system != "darwin":
        return False
    found = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", machine.run(["/usr/bin/pmset", "-g", "therm"]) or "")
    return found is not None and int(found[1]) < 100


def mac_is_hot(machine: Machine) -> bool:
    """Whether thermal pressure of macOS is above nominal: 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""
    if machine.system != "darwin":
        return False
    key = "com.apple.system.thermalpressurelevel"
    found = re.search(rf"{re.escape(key)}\s+(\d+)", machine.run(["/usr/bin/notifyutil", "-g", key]) or "")
    return found is not None and int(found[1]) > 0


class _Remembered(Generic[T]):
    """A slow question whose answer is reused for two seconds, so that short repetitions are not slowed by it."""

    def __init__(self, ask: Callable[[], T], now_s: Callable[[], float]) -> None:
        self._ask, self._now_s, self._asked_s = ask, now_s, -math.inf

    def __call__(self) -> T:
        now_s = self._now_s()
        if now_s - self._asked_s >= KEEP_S:
            self._answer, self._asked_s = self._ask(), now_s
        return self._answer


def _is_low(clocks: Sequence[tuple[float, float | None]]) -> bool:
    """Whether even the fastest processor is slow against its base clock; idle ones always are, so a mean would lie."""
    return max((khz / base_khz for khz, base_khz in clocks if base_khz), default=1.0) < LOW_CLOCK


def _number(path: Path) -> float | None:
    """The number in a file of sysfs; None where a device does not answer. Unbuffered: there may be hundreds of them."""
    try:
        with open(path, "rb", buffering=0) as file:
            return float(file.read(64))
    except (OSError, ValueError):  # such as "<unsupported>"
        return None
