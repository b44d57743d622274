"""Flags and readings around a repetition, on a machine whose clocks, counters and files are made up."""

import json
import os
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from harness import schema
from harness.machine import interference
from harness.machine.accelerators.base import LIVE
from harness.machine.interference import Machine, Watch, wait_for_idle
from tests import recorded
from tests.conftest import REPOSITORY, make_sample

sys.path.insert(0, str(REPOSITORY / "scripts" / "benchmarks"))
import smallest_load

PMSET_QUIET = """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""
PMSET_LIMITED = """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
2026-01-02 03:04:05 +0100 CPU Power notify
\tCPU_Scheduler_Limit \t= 100
\tCPU_Available_CPUs \t= 8
\tCPU_Speed_Limit \t= {percent}
"""
PRESSURE = "com.apple.system.thermalpressurelevel {level}\n"


class FakeMachine:
    """A made-up machine: time passes and work is done only by run()."""

    def __init__(self, root: Path, n_logical: int = 8, system: str = "linux") -> None:
        self.awake_s = self.slept_s = self.jumped_s = self.busy_s = self.own_s = 0.0
        self.commands: list[str] = []
        self.answers: dict[str, str | None] = {"pmset": PMSET_QUIET, "notifyutil": PRESSURE.format(level=0)}
        self.battery: Any = None
        self.machine = Machine(
            root=root,
            system=system,
            run=self.tool,
            busy_s=lambda: self.busy_s,
            own_cpu_s=lambda: self.own_s,
            awake_s=lambda: self.awake_s,
            through_sleep_s=lambda: self.awake_s + self.slept_s,
            wall_s=lambda: 1.7e9 + self.awake_s + self.slept_s + self.jumped_s,
            mac_battery=lambda: self.battery,
            n_logical=n_logical,
        )

    def tool(self, command: Sequence[str]) -> str | None:
        self.commands.append(command[0])
        return self.answers[Path(command[0]).name]

    def run(
        self, span_s: float, ours: float = 1.0, foreign: float = 0.0, slept_s: float = 0.0, jumped_s: float = 0.0
    ) -> None:
        """Let time pass; ours and foreign are in busy processors."""
        self.awake_s += span_s
        self.own_s += ours * span_s
        self.busy_s += (ours + foreign) * span_s
        self.slept_s += slept_s
        self.jumped_s += jumped_s


class FakeGpu:
    """A GPU whose readings are given; also a stand-in for open_gpu()'s result."""

    def __init__(self, idle: bool | None = False, **live: Any) -> None:
        quiet = {"gpu_mhz": 2700, "gpu_temperature_c": 60, "gpu_power_w": 180.0, "gpu_throttle": ""}
        self.readings = quiet | {"foreign_gpu_processes": 0} | live
        self.idle = idle

    def facts(self) -> dict[str, Any]:
        return {"gpu_max_mhz": 3000}

    def live(self) -> dict[str, Any]:
        return dict(self.readings)

    def is_idle(self) -> bool | None:
        return self.idle


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def columns(machine: FakeMachine, gpu: Any = None, span_s: float = 1.0, **what: float) -> dict[str, Any]:
    finish = Watch(gpu, machine.machine).begin()
    machine.run(span_s, **what)
    return finish()


def flags(machine: FakeMachine, gpu: Any = None, **what: float) -> list[str]:
    return columns(machine, gpu, **what)["flags"].split()


def write(file: Path, text: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")
    return file


# ---------------------------------------------------------------- the row


def test_a_quiet_machine_without_sensors_has_every_column_and_no_flag(machine: FakeMachine) -> None:
    assert columns(machine) == {
        "flags": "",
        "unwatched": "throttled quota low_clock battery temperature",
        "foreign_cpu_share": 0.0,
        "throttled_s": None,
        "cpu_mhz": None,
        "cpu_temperature_c": None,
        **dict.fromkeys(LIVE),
    }


def test_the_gpus_readings_are_passed_on(machine: FakeMachine) -> None:
    gpu = FakeGpu(gpu_mhz=2685)
    assert {name: columns(machine, gpu)[name] for name in LIVE} == gpu.readings


def test_every_flag_is_one_that_the_schema_names(machine: FakeMachine, tmp_path: Path) -> None:
    supply = tmp_path / "sys/class/power_supply/BAT0"
    write(supply / "type", "Battery")
    write(supply / "status", "Discharging")
    gpu = FakeGpu(foreign_gpu_processes=1, gpu_throttle="hw_thermal", gpu_mhz=300)
    raised = flags(machine, gpu, foreign=2.0, slept_s=60.0, jumped_s=-3600.0)
    assert raised == ["load", "gpu_load", "throttled", "low_clock", "battery", "suspend", "clock_jump"]
    [meaning] = [column.meaning for column in schema.SAMPLES if column.name == "flags"]
    assert set(raised) | {"thermal", "drift"} == set(meaning.removesuffix("; spaced").split(", "))
    assert set(raised) | {"thermal"} == set(interference.FLAGS)


def test_each_repetition_is_judged_by_itself(machine: FakeMachine) -> None:
    watch = Watch(None, machine.machine)
    seen = []
    for foreign in (0.0, 3.0, 0.0):
        finish = watch.begin()
        machine.run(2.0, foreign=foreign)
        seen.append(finish()["flags"])
        machine.run(5.0, foreign=8.0)  # between two repetitions: nobody's business
    assert seen == ["", "load", ""]


# ---------------------------------------------------------------- foreign load


N_LOGICAL = [1, 2, 4, 8, 64, 256]


@pytest.mark.parametrize("n_logical", N_LOGICAL)
def test_one_busy_foreign_process_is_load_on_any_machine(n_logical: int, tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, n_logical)
    row = columns(machine, ours=n_logical - 1, foreign=1.0)
    assert row["flags"] == "load"
    assert row["foreign_cpu_share"] == pytest.approx(1 / n_logical)


@pytest.mark.parametrize("n_logical", N_LOGICAL)
def test_what_ray_and_our_parent_use_is_not_load(n_logical: int, tmp_path: Path) -> None:
    assert flags(FakeMachine(tmp_path, n_logical), foreign=0.085, span_s=10.0) == []


@pytest.mark.parametrize("n_logical", N_LOGICAL[1:])
@pytest.mark.parametrize("ours", [0.5, 1.0])
@pytest.mark.parametrize(("span_s", "calm", "load"), [
    (0.1, 0.34, 0.36), (0.3, 0.21, 0.22), (1.0, 0.16, 0.18), (10.0, 0.15, 0.16), (1000.0, 0.15, 0.151),
])  # fmt: skip
def test_a_small_part_of_one_core_is_load_however_many_there_are(
    n_logical: int, ours: float, span_s: float, calm: float, load: float, tmp_path: Path
) -> None:
    machine, used = FakeMachine(tmp_path, n_logical), ours * n_logical
    assert flags(machine, ours=used, foreign=calm, span_s=span_s) == []
    assert flags(machine, ours=used, foreign=load, span_s=span_s) == ["load"]


def test_two_steps_of_the_kernels_counter_are_not_load(tmp_path: Path) -> None:
    assert flags(FakeMachine(tmp_path, 1), foreign=0.2, span_s=0.1) == []


def test_the_table_of_the_smallest_loads_is_in_the_docs() -> None:
    assert smallest_load.table() in (REPOSITORY / "docs" / "measurement.md").read_text()


def test_a_short_span_tells_nothing_about_load(machine: FakeMachine) -> None:
    row = columns(machine, span_s=0.04, foreign=7.0)
    assert (row["foreign_cpu_share"], row["flags"]) == (None, "")
    assert "load" in row["unwatched"].split()


def test_the_share_is_never_negative(machine: FakeMachine) -> None:
    assert columns(machine, ours=1.0, foreign=-0.01)["foreign_cpu_share"] == 0.0


def test_counters_that_miss_even_our_own_use_are_not_believed(machine: FakeMachine) -> None:
    row = columns(machine, ours=4.0, foreign=-4.0)
    assert row["foreign_cpu_share"] is None
    assert "load" in row["unwatched"].split()
    assert columns(machine, ours=0.0)["foreign_cpu_share"] == 0.0


Linux = namedtuple("Linux", "user nice system idle iowait irq softirq steal guest guest_nice")
Mac = namedtuple("Mac", "user nice system idle")


@pytest.mark.parametrize(("system", "times", "busy_s"), [
    ("linux", Linux(1, 2, 4, 1000, 500, 8, 16, 32, 0.5, 0.25), 4 * 700 - 1000 - 500),  # whatever it did: not idle
    ("linux", Linux(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0),  # a kernel that counts nothing
    ("darwin", Mac(1, 2, 4, 1000), 7),
])  # fmt: skip
def test_a_processor_that_is_not_idle_is_busy_but_disks_are_no_work(
    system: str, times: Any, busy_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    monkeypatch.setattr(interference, "_n_logical", lambda: 4)
    monkeypatch.setattr(interference, "sys", SimpleNamespace(platform=system))
    monkeypatch.setattr(interference, "time", SimpleNamespace(perf_counter=lambda: 700.0))
    assert interference._busy_s() == busy_s


def test_foreign_work_on_the_gpu_is_flagged_and_unknown_is_not(machine: FakeMachine) -> None:
    assert flags(machine, FakeGpu(foreign_gpu_processes=1)) == ["gpu_load"]
    row = columns(machine, FakeGpu(foreign_gpu_processes=None))
    assert row["flags"] == ""
    assert "gpu_load" in row["unwatched"].split()


# ---------------------------------------------------------------- heat and clocks


@pytest.mark.parametrize(("reasons", "raised"), [
    ("", []),
    ("sw_power_cap", []),
    ("applications_clocks sync_boost display_clock", []),
    (None, []),
    ("sw_power_cap sw_thermal", ["throttled"]),
    ("hw_thermal", ["throttled"]),
    ("hw_power_brake", ["throttled"]),
    ("hw_slowdown", ["throttled"]),
])  # fmt: skip
def test_heat_is_throttling_and_the_power_limit_alone_is_not(
    reasons: str | None, raised: list[str], machine: FakeMachine
) -> None:
    assert flags(machine, FakeGpu(gpu_throttle=reasons)) == raised


def test_a_slow_gpu_is_flagged_unless_it_has_nothing_to_do(machine: FakeMachine) -> None:
    assert flags(machine, FakeGpu(gpu_mhz=2249)) == ["low_clock"]
    assert flags(machine, FakeGpu(gpu_mhz=2250)) == []
    assert flags(machine, FakeGpu(gpu_mhz=210, idle=True)) == []
    assert flags(machine, FakeGpu(gpu_mhz=210, idle=None)) == []
    assert flags(machine, FakeGpu(gpu_mhz=None)) == []


def test_a_throttle_count_that_rises_within_the_repetition_is_throttling(machine: FakeMachine, tmp_path: Path) -> None:
    counts = [tmp_path / f"sys/devices/system/cpu/cpu{i}/thermal_throttle/core_throttle_count" for i in range(2)]
    for count in counts:
        write(count, 41)
    watch = Watch(None, machine.machine)
    finish = watch.begin()
    assert finish()["flags"] == ""
    finish = watch.begin()
    write(counts[1], 42)
    assert finish()["flags"] == "throttled"


def cpu(root: Path, index: int, mhz: float | str, base_mhz: float | None = None) -> None:
    folder = root / f"sys/devices/system/cpu/cpu{index}/cpufreq"
    write(folder / "scaling_cur_freq", mhz if isinstance(mhz, str) else int(mhz * 1000))
    if base_mhz:
        write(folder / "base_frequency", int(base_mhz * 1000))


def test_the_clock_is_the_mean_but_the_fastest_processor_decides(machine: FakeMachine, tmp_path: Path) -> None:
    cpu(tmp_path, 0, 3600, 3400)
    cpu(tmp_path, 1, 800, 3400)
    row = columns(machine)
    assert (row["cpu_mhz"], row["flags"]) == (2200, "")
    cpu(tmp_path, 0, 2500, 3400)
    assert flags(machine) == ["low_clock"]


def test_each_processor_is_held_against_its_own_base_clock(machine: FakeMachine, tmp_path: Path) -> None:
    cpu(tmp_path, 0, 2000, 3400)
    cpu(tmp_path, 1, 2000, 2500)
    assert flags(machine) == []


@pytest.mark.parametrize(("name", "low_mhz", "fine_mhz"), [
    ("Intel, intel_pstate", 2500, 2600),
    ("AMD, acpi-cpufreq", 1800, 1850),
    ("AMD, acpi-cpufreq without CPPC", 1600, 1650),  # 0.75 of 0.6 of the highest
    ("AMD, amd-pstate", 3350, 3400),
    ("ARM, cppc_cpufreq", 2200, 2300),
    ("ARM, cpufreq-dt", 1050, 1100),
    ("ARM, firmware that knows no nominal clock", 1150, 1200),
])  # fmt: skip
def test_every_driver_s_clocks_are_held_against_what_it_promises(
    name: str, low_mhz: int, fine_mhz: int, machine: FakeMachine, tmp_path: Path
) -> None:
    recorded.linux(tmp_path, recorded.CLOCKS[name])
    for mhz, raised in ((low_mhz, ["low_clock"]), (fine_mhz, []), (300, ["low_clock"])):
        for index in range(2):
            cpu(tmp_path, index, mhz)
        row = columns(machine)
        assert (row["cpu_mhz"], row["flags"].split()) == (mhz, raised)
        assert "low_clock" not in row["unwatched"].split()


def test_there_is_a_case_for_every_recorded_driver() -> None:
    [cases] = test_every_driver_s_clocks_are_held_against_what_it_promises.pytestmark
    assert {name for name, *_ in cases.args[1]} == recorded.CLOCKS.keys()


def test_without_a_nominal_clock_none_is_low_and_that_is_told(machine: FakeMachine, tmp_path: Path) -> None:
    cpu(tmp_path, 0, 400)
    row = columns(machine)
    assert (row["cpu_mhz"], row["flags"]) == (400, "")
    assert "low_clock" in row["unwatched"].split()


def test_a_processor_that_does_not_tell_its_clock_is_left_out(machine: FakeMachine, tmp_path: Path) -> None:
    cpu(tmp_path, 0, 3000)
    cpu(tmp_path, 1, "<unsupported>")
    (tmp_path / "sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq").mkdir(parents=True)
    assert columns(machine)["cpu_mhz"] == 3000


def test_the_hottest_processor_is_reported_and_no_disk(machine: FakeMachine, tmp_path: Path) -> None:
    for i, (name, milli_c) in enumerate([("nvme", 85_000), ("coretemp", 61_000), ("coretemp", 64_500)]):
        write(tmp_path / f"sys/class/hwmon/hwmon{i}/name", name)
        write(tmp_path / f"sys/class/hwmon/hwmon{i}/temp1_input", milli_c)
    assert columns(machine)["cpu_temperature_c"] == 64.5


# ---------------------------------------------------------------- quotas

V2, V1 = "sys/fs/cgroup/{}/cpu.stat", "sys/fs/cgroup/cpu/{}/cpu.stat"
V2_GROUP, V1_GROUP = "0::/{}", "4:cpu,cpuacct:/{}\n1:name=systemd:/\n0::/"
V2_STAT = "usage_usec 99\nnr_periods 9\nnr_throttled {}\nthrottled_usec {}000\n"
V1_STAT = "nr_periods 9\nnr_throttled {}\nthrottled_time {}000000\n"
QUOTAS = {"version 2": (V2, V2_GROUP, V2_STAT), "version 1": (V1, V1_GROUP, V1_STAT)}


@pytest.mark.parametrize("version", QUOTAS)
@pytest.mark.parametrize("stopped", ["pod/box", "pod", "."])
def test_a_quota_that_stops_this_group_or_one_around_it_is_throttling(
    version: str, stopped: str, machine: FakeMachine, tmp_path: Path
) -> None:
    path, group, stat = QUOTAS[version]
    write(tmp_path / "proc/self/cgroup", group.format("pod/box"))
    for name in ("pod/box", "pod", "."):
        write(tmp_path / path.format(name), stat.format(5, 700))
    watch = Watch(None, machine.machine)
    finish = watch.begin()
    row = finish()
    assert (row["flags"], row["throttled_s"]) == ("", 0.0)
    assert "quota" not in row["unwatched"].split()
    finish = watch.begin()
    write(tmp_path / path.format(stopped), stat.format(6, 950))
    row = finish()
    assert (row["flags"], row["throttled_s"]) == ("throttled", pytest.approx(0.25))


def test_groups_that_are_stopped_at_the_same_time_are_not_added(machine: FakeMachine, tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", V2_GROUP.format("pod/box"))
    files = [write(tmp_path / V2.format(name), V2_STAT.format(0, 0)) for name in ("pod/box", "pod")]
    finish = Watch(None, machine.machine).begin()
    for file, stopped_ms in zip(files, (200, 300), strict=True):
        write(file, V2_STAT.format(1, stopped_ms))
    assert finish()["throttled_s"] == pytest.approx(0.3)


def test_a_quota_of_another_group_is_none_of_ours(machine: FakeMachine, tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", V2_GROUP.format("pod/box"))
    write(tmp_path / V2.format("pod/box"), V2_STAT.format(0, 0))
    other = write(tmp_path / V2.format("pod/other"), V2_STAT.format(0, 0))
    finish = Watch(None, machine.machine).begin()
    write(other, V2_STAT.format(9, 900))
    assert finish()["flags"] == ""


def test_the_group_of_all_has_no_quota(machine: FakeMachine, tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/")
    write(tmp_path / "sys/fs/cgroup/cpu.stat", "usage_usec 99\nuser_usec 50\nsystem_usec 49\n")
    row = columns(machine)
    assert (row["flags"], row["throttled_s"]) == ("", 0.0)
    assert "quota" not in row["unwatched"].split()


@pytest.mark.parametrize("text", ["", "nonsense\n", None])
def test_a_group_that_tells_nothing_raises_nothing(text: str | None, machine: FakeMachine, tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/box")
    file = write(tmp_path / V2.format("box"), text or "")
    finish = Watch(None, machine.machine).begin()
    if text is None:
        file.unlink()
    assert finish()["flags"] == ""


QUOTA_LOOK = """
import json, os, pathlib, sys, time
from harness.machine import interference, probe
(pathlib.Path(sys.argv[1]) / "cgroup.procs").write_text(str(os.getpid()))
finish = interference.Watch().begin()
end_s = time.perf_counter() + 0.5
while time.perf_counter() < end_s:
    pass
print(json.dumps([probe.n_cores(), finish()]))
"""


GROUPS = {  # where control groups may be made, and how one of them gets a tenth of a processor
    Path("/sys/fs/cgroup"): ("cpu.max", "10000 100000"),
    Path("/sys/fs/cgroup/cpu"): ("cpu.cfs_quota_us", "10000"),
}


@pytest.fixture(params=["", "inner"], ids=["in the group", "in a group inside it"])
def tenth_of_a_processor(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A real control group whose quota is a tenth of a processor, or a group without a quota inside of it."""
    there = [root for root, (file, _) in GROUPS.items() if (root / file).exists() or any(root.glob(f"*/{file}"))]
    if not there or os.geteuid():
        pytest.skip("a control group with a quota needs root and a tree of them that can be written")
    root = there[0]
    file, quota = GROUPS[root]
    outer = root / f"cellbench-test-{os.getpid()}"
    inner = outer / request.param
    try:
        inner.mkdir(parents=True)
        (outer / file).write_text(quota)
    except OSError as error:
        pytest.skip(f"no control group with a quota can be made here: {error}")
    else:
        yield inner
    finally:
        for group in dict.fromkeys((inner, outer)):
            with suppress(OSError):
                group.rmdir()


def test_a_real_quota_is_seen(tenth_of_a_processor: Path) -> None:
    command = [sys.executable, "-c", QUOTA_LOOK, str(tenth_of_a_processor)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    n_cores, row = json.loads(done.stdout)
    assert "throttled" in row["flags"].split()
    assert "quota" not in row["unwatched"].split()
    assert 0.1 < row["throttled_s"] < 10.0
    assert n_cores == 1


# ---------------------------------------------------------------- what cannot be seen

INTEL = {
    **recorded.CLOCKS["Intel, intel_pstate"],
    f"{recorded.CPU}/cpu0/cpufreq/scaling_cur_freq": "3400000",
    f"{recorded.CPU}/cpu0/thermal_throttle/core_throttle_count": "0",
    "sys/class/hwmon/hwmon0/name": "coretemp",
    "sys/class/hwmon/hwmon0/temp1_input": "45000",
    "sys/class/power_supply/AC/type": "Mains",
    "proc/self/cgroup": "0::/",
    "sys/fs/cgroup/cpu.stat": "usage_usec 1",
}
AMD = {
    **{path: text for path, text in INTEL.items() if "cpu0" not in path},
    **recorded.CLOCKS["AMD, amd-pstate"],
    f"{recorded.CPU}/cpu0/cpufreq/scaling_cur_freq": "4500000",
    "sys/class/hwmon/hwmon0/name": "k10temp",
}
GUEST = {path: text for path, text in INTEL.items() if path.startswith(("proc", "sys/fs"))}
SEES_ALL = FakeGpu()
SEES_NOTHING = FakeGpu(None, **dict.fromkeys(LIVE))


@pytest.mark.parametrize(("files", "gpu", "is_host", "unwatched"), [
    (INTEL, None, True, ""),
    (INTEL, SEES_ALL, False, ""),
    (INTEL, SEES_NOTHING, False, "gpu_load gpu_throttled gpu_low_clock gpu_temperature"),
    (INTEL, None, False, "gpu_load gpu_throttled gpu_low_clock gpu_temperature"),  # AMD's and Intel's GPUs
    (AMD, None, True, "throttled"),
    (AMD, SEES_ALL, False, "throttled"),
    (GUEST, None, True, "throttled low_clock battery temperature"),
    (GUEST, SEES_ALL, False, "throttled low_clock battery temperature"),
    ({}, None, True, "throttled quota low_clock battery temperature"),
    (INTEL, FakeGpu(foreign_gpu_processes=None), False, "gpu_load"),
    (INTEL, FakeGpu(gpu_throttle=None), False, "gpu_throttled"),
    (INTEL, FakeGpu(gpu_mhz=None), False, "gpu_low_clock"),
    (INTEL, FakeGpu(idle=None), False, "gpu_low_clock"),
    (INTEL, FakeGpu(gpu_temperature_c=None), False, "gpu_temperature"),
])  # fmt: skip
def test_what_cannot_be_seen_on_linux_is_listed(
    files: dict[str, str], gpu: FakeGpu | None, is_host: bool, unwatched: str, machine: FakeMachine, tmp_path: Path
) -> None:
    recorded.linux(tmp_path, files)
    finish = Watch(gpu, machine.machine, is_host).begin()
    machine.run(1.0)
    row = finish()
    assert sorted(row["unwatched"].split()) == sorted(unwatched.split())
    assert row["flags"] == ""


@pytest.mark.parametrize(("silent", "is_host", "unwatched"), [
    ([], True, "low_clock temperature"),
    ([], False, "low_clock temperature gpu_load gpu_throttled gpu_low_clock gpu_temperature"),
    (["pmset"], True, "throttled low_clock temperature"),
    (["notifyutil"], True, "thermal low_clock temperature"),
])  # fmt: skip
def test_what_cannot_be_seen_on_a_mac_is_listed(
    silent: list[str], is_host: bool, unwatched: str, tmp_path: Path
) -> None:
    mac = FakeMachine(tmp_path, system="darwin")
    mac.answers |= dict.fromkeys(silent)
    finish = Watch(None, mac.machine, is_host).begin()
    mac.run(1.0)
    assert sorted(finish()["unwatched"].split()) == sorted(unwatched.split())


# ---------------------------------------------------------------- macOS


def test_a_quiet_mac_has_no_flag(tmp_path: Path) -> None:
    assert flags(FakeMachine(tmp_path, system="darwin")) == []


@pytest.mark.parametrize(("percent", "raised"), [(100, []), (85, ["throttled"]), (0, ["throttled"])])
def test_a_lowered_speed_limit_is_throttling(percent: int, raised: list[str], tmp_path: Path) -> None:
    mac = FakeMachine(tmp_path, system="darwin")
    mac.answers["pmset"] = PMSET_LIMITED.format(percent=percent)
    assert flags(mac) == raised


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_thermal_pressure_is_flagged(level: int, tmp_path: Path) -> None:
    mac = FakeMachine(tmp_path, system="darwin")
    mac.answers["notifyutil"] = PRESSURE.format(level=level)
    assert flags(mac) == ["thermal"]


def test_tools_that_say_nothing_raise_no_flag(tmp_path: Path) -> None:
    mac = FakeMachine(tmp_path, system="darwin")
    mac.answers = dict.fromkeys(mac.answers)
    assert flags(mac) == []


def test_slow_questions_are_asked_every_two_seconds_at_most(tmp_path: Path) -> None:
    mac = FakeMachine(tmp_path, system="darwin")
    watch = Watch(None, mac.machine)
    for _ in range(50):
        finish = watch.begin()
        mac.run(0.1)
        finish()
    assert len(mac.commands) == 2 * 3


def test_linux_is_not_asked_for_the_tools_of_a_mac(machine: FakeMachine) -> None:
    columns(machine)
    assert machine.commands == []


# ---------------------------------------------------------------- power


@pytest.mark.parametrize(("plugged", "raised"), [(False, ["battery"]), (True, []), (None, [])])
def test_a_mac_on_its_battery_is_flagged(plugged: bool | None, raised: list[str], tmp_path: Path) -> None:
    mac = FakeMachine(tmp_path, system="darwin")
    mac.battery = SimpleNamespace(percent=80, power_plugged=plugged)
    assert flags(mac) == raised


@pytest.mark.parametrize(("supplies", "raised"), [
    ({"BAT0": ("Battery", None, "Discharging"), "AC": ("Mains", None, None)}, ["battery"]),
    ({"BAT0": ("Battery", None, "Not charging"), "AC": ("Mains", None, None)}, []),
    ({"BAT0": ("Battery", "System", "Full"), "BAT1": ("Battery", "System", "Discharging")}, ["battery"]),
    ({"hidpp_battery_0": ("Battery", "Device", "Discharging")}, []),
    ({"some_ups": ("UPS", None, "Discharging")}, []),
])  # fmt: skip
def test_a_laptop_on_its_battery_is_flagged_and_a_wireless_mouse_is_not(
    supplies: dict[str, tuple[str | None, ...]], raised: list[str], machine: FakeMachine, tmp_path: Path
) -> None:
    for name, output in supplies.items():
        for file, text in zip(("type", "scope", "status"), output, strict=True):
            if text:
                write(tmp_path / "sys/class/power_supply" / name / file, text)
    assert flags(machine) == raised


# ---------------------------------------------------------------- clocks


def test_sleep_within_a_repetition_is_flagged(machine: FakeMachine) -> None:
    assert flags(machine, slept_s=0.6) == ["suspend"]
    assert flags(machine, slept_s=0.4) == []
    assert flags(machine, slept_s=3600.0) == ["suspend"]


@pytest.mark.parametrize("jumped_s", [1.1, -1.1, 3600.0])
def test_a_set_wall_clock_is_flagged(jumped_s: float, machine: FakeMachine) -> None:
    assert flags(machine, jumped_s=jumped_s) == ["clock_jump"]


def test_a_wall_clock_that_is_slewed_is_fine(machine: FakeMachine) -> None:
    assert flags(machine, span_s=3600.0, jumped_s=3600 * 0.0005) == []


def test_the_real_clocks_agree_while_the_machine_is_awake() -> None:
    begin = interference._through_sleep_s() - time.perf_counter()
    time.sleep(0.05)
    assert interference._through_sleep_s() - time.perf_counter() == pytest.approx(begin, abs=0.02)


# ---------------------------------------------------------------- around a block


def waited(machine: FakeMachine, limit_s: float, foreign: list[float], gpu: Any = None) -> tuple[float, list[float]]:
    """What wait_for_idle() returns and its looks, while others use so many processors during each."""
    looks: list[float] = []

    def sleep(span_s: float) -> None:
        machine.run(span_s, ours=0.0, foreign=foreign[min(len(looks), len(foreign) - 1)])
        looks.append(span_s)

    return wait_for_idle(limit_s, gpu, machine.machine, sleep), looks


def test_without_time_there_is_no_look(machine: FakeMachine) -> None:
    assert waited(machine, 0.0, [8.0]) == (0.0, [])


def test_an_idle_machine_is_found_so_at_the_first_look(machine: FakeMachine) -> None:
    assert waited(machine, 60.0, [0.02]) == (0.0, [1.0])


def test_a_busy_machine_is_waited_for(machine: FakeMachine) -> None:
    assert waited(machine, 60.0, [1.0, 1.0, 4.0, 0.0]) == (3.0, [1.0] * 4)


def test_the_wait_has_an_end(machine: FakeMachine) -> None:
    assert waited(machine, 2.5, [1.0]) == (2.5, [1.0, 1.0, 0.5])


def test_a_hot_gpu_is_waited_for(machine: FakeMachine) -> None:
    assert waited(machine, 2.0, [0.0], FakeGpu(gpu_throttle="sw_thermal")) == (2.0, [1.0, 1.0])
    assert waited(machine, 2.0, [0.0], FakeGpu(gpu_throttle="sw_power_cap")) == (0.0, [1.0])


# ---------------------------------------------------------------- the real machine


def test_the_real_machine_gives_every_column() -> None:
    finish = Watch().begin()
    time.sleep(0.12)
    row = finish()
    readings = {"flags", "unwatched", "foreign_cpu_share", "throttled_s", "cpu_mhz", "cpu_temperature_c"}
    assert row.keys() == {*readings, *LIVE}
    known = {name: value for name, value in row.items() if name in schema.ARROW.names}
    assert schema.table([make_sample(**known)]).num_rows == 1
    assert row["foreign_cpu_share"] is None or 0 <= row["foreign_cpu_share"] < 1.5


def look(span_s: float = 2.0) -> dict[str, Any]:
    """What a real watch says while this process keeps one processor busy itself."""
    finish = Watch().begin()
    end_s = time.perf_counter() + span_s
    while time.perf_counter() < end_s:
        pass
    return finish()


def wait_or_skip() -> None:
    if wait_for_idle(20.0) > 19.0:
        pytest.skip("others keep this machine busy")


@pytest.mark.slow
def test_a_real_busy_process_is_load_and_our_own_work_is_not() -> None:
    for _ in range(5):  # someone else may always wake up just now
        wait_or_skip()
        row = look()
        if not row["flags"]:
            break
    assert row["flags"] == ""
    assert row["foreign_cpu_share"] < 0.1
    busy = subprocess.Popen(
        [sys.executable, "-c", "print('go', flush=True)\nwhile True: pass"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert busy.stdout is not None
        assert busy.stdout.readline() == "go\n"
        row = look()
    finally:
        busy.kill()
        busy.communicate()
    assert row["flags"] == "load"
    assert row["foreign_cpu_share"] * len(psutil.cpu_times(percpu=True)) > 0.4
