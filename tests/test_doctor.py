"""The checks of the command's own process, on made-up machines, and the real command once."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import accumulate, cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.doctor import installation, machine_checks
from harness.errors import CellbenchError
from harness.machine import interference, probe
from harness.machine.checks import FAIL, OK, SKIPPED, WARN, Check
from harness.machine.probe_io import Sources
from harness.measure.wire import SelfcheckRequest

COMMAND = Path(sys.executable).with_name("cellbench")
real_devices = machine_checks.devices
PMSET = """System-wide power settings:
Currently in use:
 standby              1
 hibernatefile        /var/vm/sleepimage
 powernap             1
 disksleep            10
 sleep                {minutes} (sleep prevented by powerd)
 displaysleep         10
"""


# ------------------------------------------------------------------ clocks


def ticking(*steps_ns: int) -> Callable[[], int]:
    """A clock that moves by these steps again and again."""
    return accumulate(cycle(steps_ns)).__next__


@pytest.mark.parametrize(
    ("steps_ns", "verdict"),
    [((40,), OK), ((0, 0, 1000), OK), ((0, 1001), WARN), ((15_600_000,), WARN), ((0,), WARN), ((40, 40, -1), FAIL)],
)
def test_clock(steps_ns: tuple[int, ...], verdict: str) -> None:
    check = machine_checks.clock(ticking(*steps_ns))
    assert check.verdict == verdict
    assert (check.fix is None) is (verdict == OK)


class Clocks:
    """Two clocks that move while someone sleeps; reading them now and then takes a while."""

    def __init__(self, rate: float, reading_ns: tuple[int, ...] = (100,)) -> None:
        self.rate, self.now, self.reading_ns = rate, 0.0, cycle(reading_ns)

    def now_ns(self) -> int:
        self.now += next(self.reading_ns)
        return round(self.now)

    def wall_ns(self) -> int:
        return round(1.7e18) + round(self.now * self.rate)

    def sleep(self, span_s: float) -> None:
        self.now += span_s * 1e9

    def check(self) -> Check:
        return machine_checks.wall_clock(self.now_ns, self.wall_ns, self.sleep)


@pytest.mark.parametrize(("rate", "verdict"), [(1.0, OK), (1.0005, OK), (1.05, WARN), (0.9, WARN), (-4.0, WARN)])
def test_wall_clock(rate: float, verdict: str) -> None:
    check = Clocks(rate).check()
    assert check.verdict == verdict
    assert (check.fix is None) is (verdict == OK)


def test_a_moment_between_two_reads_is_no_drift() -> None:
    assert Clocks(1.0, reading_ns=(50_000_000, 50_000_000, 100, 100, 100)).check().verdict == OK


# ------------------------------------------------------------------ load, heat, power


def watch(flags: str = "", share: float | None = 0.01, temperature_c: float | None = None) -> Any:
    seen = {"flags": flags, "foreign_cpu_share": share, "cpu_temperature_c": temperature_c}
    return SimpleNamespace(begin=lambda: lambda: seen)


@pytest.mark.parametrize(
    ("seen", "verdicts"),
    [
        (watch(), [OK, SKIPPED]),
        (watch("load", 0.4), [WARN, SKIPPED]),
        (watch(share=None, temperature_c=50.0), [SKIPPED, OK]),
        (watch("thermal", temperature_c=96.0), [OK, WARN]),
        (watch("throttled"), [OK, WARN]),
        # An idle processor's clock is low, and power is a check of its own.
        (watch("low_clock battery", temperature_c=40.0), [OK, OK]),
    ],
)
def test_load_and_heat(seen: Any, verdicts: list[str]) -> None:
    slept_s: list[float] = []
    checks = machine_checks.load(seen, slept_s.append)
    assert [check.name for check in checks] == ["load", "heat"]
    assert [check.verdict for check in checks] == verdicts
    assert all((check.fix is None) is (check.verdict != WARN) for check in checks)
    assert slept_s == [interference.LOOK_S]


def test_a_mac_tells_of_pressure_not_of_degrees() -> None:
    seen = {"flags": "", "cpu_temperature_c": None}
    assert machine_checks.heat(seen, "darwin").verdict == OK
    assert machine_checks.heat({**seen, "flags": "thermal"}, "darwin").verdict == WARN


def test_a_quota_is_not_taken_for_heat() -> None:
    seen = {"flags": "throttled", "cpu_temperature_c": 50.0, "throttled_s": 0.25}
    check = machine_checks.heat(seen, "linux")
    assert (check.verdict, check.fix) == (WARN, "raise the container's quota of processors")
    assert "0.25 s" in check.evidence
    assert "vents" in (machine_checks.heat({**seen, "throttled_s": 0.0}, "linux").fix or "")


@pytest.mark.parametrize(("facts", "verdict", "fix"), [
    ({}, SKIPPED, ""),
    ({"power_source": None, "power_mode": None}, SKIPPED, ""),
    ({"power_source": "mains", "cpu_governor": "performance"}, OK, ""),
    ({"power_source": "battery"}, WARN, "plug it in"),
    ({"power_source": "mains", "power_mode": "low"}, WARN, "power mode"),
    ({"power_source": "mains", "power_mode": "automatic"}, OK, ""),
    ({"power_mode": "power-saver"}, WARN, "power mode"),
    ({"power_mode": "balanced"}, OK, ""),
    ({"cpu_governor": "powersave", "cpu_scaling_driver": "acpi-cpufreq"}, WARN, "frequency-set"),
    ({"cpu_governor": "powersave schedutil", "cpu_scaling_driver": "cppc_cpufreq"}, WARN, "frequency-set"),
    ({"cpu_governor": "powersave", "cpu_scaling_driver": "intel_pstate"}, OK, ""),
    ({"cpu_governor": "powersave", "cpu_scaling_driver": "amd-pstate-epp", "cpu_energy_preference": "power"},
     WARN, "--epp"),
    ({"cpu_energy_preference": "balance_performance"}, OK, ""),
    ({"cpu_energy_preference": "balance_power"}, WARN, "--epp"),
])  # fmt: skip
def test_power(facts: dict[str, Any], verdict: str, fix: str) -> None:
    check = machine_checks.power(facts)
    assert check.verdict == verdict
    assert fix in (check.fix or "")
    assert (check.fix is None) is (verdict != WARN)


@pytest.mark.parametrize(("limit", "verdict"), [(None, OK), (4.0, OK), (3.5, WARN), (0.5, WARN)])
def test_container(limit: float | None, verdict: str) -> None:
    assert machine_checks.container({"container": "docker", "cgroup_cpu_limit": limit}, threads=4).verdict == verdict


# ------------------------------------------------------------------ room


def ram(available_gb: float) -> Any:
    return lambda: SimpleNamespace(available=available_gb * 1e9, total=16e9)


@pytest.mark.parametrize(
    ("available_gb", "limit_bytes", "verdict"),
    [(12, None, OK), (0.5, None, WARN), (12, 10**12, OK), (12, 10**9, WARN), (12, 0, WARN)],
)
def test_memory(available_gb: float, limit_bytes: int | None, verdict: str) -> None:
    check = machine_checks.memory(limit_bytes, ram(available_gb), lambda: SimpleNamespace(used=2e9))
    assert check.verdict == verdict
    assert "2.0 GB swapped out" in check.evidence


def free(results_mb: float, temporary_mb: float) -> Callable[[Path], Any]:
    return lambda folder: SimpleNamespace(free=1e6 * (temporary_mb if folder.name == "temporary" else results_mb))


@pytest.mark.parametrize(
    ("results_mb", "temporary_mb", "verdict"), [(5000, 5000, OK), (99, 5000, FAIL), (5000, 299, FAIL)]
)
def test_disk(tmp_path: Path, results_mb: float, temporary_mb: float, verdict: str) -> None:
    out = tmp_path / "new" / "results"
    check = machine_checks.disk(out, tmp_path / "temporary", free(results_mb, temporary_mb))
    assert check.verdict == verdict
    assert (check.fix is None) is (verdict == OK)
    assert not out.parent.exists()


def test_results_that_cannot_go_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch(mode=0o755)
    for out in (file, file / "results"):
        check = machine_checks.disk(out)
        assert check.verdict == FAIL
        assert "not a folder" in check.evidence
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "cannot be written" in machine_checks.disk(tmp_path / "results").evidence


# ------------------------------------------------------------------ macOS


def mac(answer: str | None, **environ: str) -> Sources:
    return Sources(root=Path("/nowhere"), system="darwin", run=lambda _: answer, environ=environ)


@pytest.mark.parametrize(
    ("answer", "verdict"), [(PMSET.format(minutes=1), WARN), (PMSET.format(minutes=0), OK), (None, SKIPPED)]
)
def test_a_mac_that_falls_asleep(answer: str | None, verdict: str) -> None:
    checks = {check.name: check for check in machine_checks.macos(mac(answer), Path("/data"), None, Path("/Users/me"))}
    assert checks["sleep"].verdict == verdict
    assert "ray on macOS" not in checks
    assert "ProcessType" in checks["scheduled runs"].evidence


@pytest.mark.parametrize(
    ("folder", "verdict"),
    [("Documents", WARN), ("Desktop/deep/results", WARN), ("Library/Mobile Documents/x", WARN), ("results", OK)],
)
def test_a_folder_that_macos_guards(folder: str, verdict: str) -> None:
    home = Path("/Users/me")
    checks = {check.name: check for check in machine_checks.macos(mac(None), home / folder, None, home)}
    assert checks["folder"].verdict == verdict


def test_rays_leave_to_form_a_cluster_on_a_mac() -> None:
    def check(**environ: str) -> Check:
        found = machine_checks.macos(mac(None, **environ), Path("/data"), "head:6379", Path("/Users/me"))
        return next(each for each in found if each.name == "ray on macOS")

    assert check().verdict == WARN
    assert check(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1").verdict == OK


# ------------------------------------------------------------------ all of them


def test_what_the_child_found() -> None:
    requests: list[object] = []

    def ask(request: object) -> list[dict[str, Any]]:
        requests.append(request)
        return [{"name": "sync cpu", "verdict": OK, "evidence": "synchronous", "fix": None}]

    assert machine_checks.devices(ask) == [Check("sync cpu", OK, "synchronous")]
    assert requests == [SelfcheckRequest((), probe.n_cores())]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """examine() without a child and without sleeping."""
    monkeypatch.setattr(machine_checks, "devices", lambda: Check("devices", OK, "all well"))
    monkeypatch.setattr(machine_checks, "load", lambda: Check("load", OK, "idle"))
    monkeypatch.setattr(machine_checks, "wall_clock", lambda: Check("wall clock", OK, "in step"))


NAMES = [
    "load", "clock", "wall clock", "power", "container", "memory", "results", "disk", "home", "versions", "packages",
    "weights", "other nodes", "ray", "ray token", "devices",
]  # fmt: skip


def test_every_check_is_made(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    names = [check.name for check in machine_checks.examine(tmp_path / "results", sources=Sources(system="linux"))]
    assert names == NAMES
    on_a_mac = [check.name for check in machine_checks.examine(tmp_path / "results", sources=mac(None))]
    assert on_a_mac == [*NAMES, "sleep", "folder", "scheduled runs"]


def test_checks_that_break_hide_no_other(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("by zero")

    def dead() -> Any:
        raise CellbenchError("torch could not be started", "Segmentation fault", "try: python -c 'import torch'")

    monkeypatch.setattr(probe, "environment", broken)
    monkeypatch.setattr(installation, "versions", broken)
    monkeypatch.setattr(machine_checks, "devices", dead)
    found = {
        check.name: check for check in machine_checks.examine(tmp_path / "results", sources=Sources(system="linux"))
    }
    assert list(found) == NAMES
    assert [name for name in NAMES if found[name].verdict == FAIL] == [
        "power", "container", "memory", "versions", "devices"
    ]  # fmt: skip
    assert "ZeroDivisionError: by zero" in found["versions"].evidence
    assert "Segmentation fault" in found["devices"].evidence


def test_the_address_comes_from_the_flag_or_from_ray(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr(installation, "ray_head", lambda address: seen.append(address) or Check("ray", OK, ""))
    sources = Sources(system="linux", environ={"RAY_ADDRESS": "environment:6379"})
    list(machine_checks.examine(tmp_path, "flag:6379", sources))
    list(machine_checks.examine(tmp_path, None, sources))
    list(machine_checks.examine(tmp_path, None, Sources(system="linux", environ={})))
    assert seen == ["flag:6379", "environment:6379", None]


# ------------------------------------------------------------------ the real command


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "doctor", *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.slow
def test_the_real_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("--json", "--out", out)
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == (3 if any(check["verdict"] == FAIL for check in found.values()) else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert {name: found[name]["verdict"] for name in ("clock", "threads", "computes cpu", "versions")} == dict.fromkeys(
        ("clock", "threads", "computes cpu", "versions"), OK
    )
    assert "synchronous" in found["sync cpu"]["evidence"] or found["sync cpu"]["verdict"] == WARN
    assert found["weights"]["verdict"] == WARN  # the tests' home is empty
    assert not out.exists()

    with socket.create_server(("127.0.0.1", 0)) as server:
        closed_port = server.getsockname()[1]
    unreachable = command("--address", f"127.0.0.1:{closed_port}", "--out", COMMAND)
    assert unreachable.returncode == 3
    assert "ray" in unreachable.stderr
    assert "not a folder" in unreachable.stdout
    assert "refused" in unreachable.stdout
    assert "Traceback" not in unreachable.stderr


def test_a_child_that_dies_is_a_failed_check(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'harness.measure.child' in sys.orig_argv: os.write(2, b'out of luck'); os._exit(9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(machine_checks, "devices", real_devices)
    found = {
        check.name: check for check in machine_checks.examine(tmp_path / "results", sources=Sources(system="linux"))
    }
    assert found["devices"].verdict == FAIL
    assert "out of luck" in found["devices"].evidence
    assert found["clock"].verdict == OK


@pytest.mark.parametrize("python", ["/no/such/python", "sh"])
def test_an_environment_that_cannot_measure_is_told(python: str, tmp_path: Path) -> None:
    if python == "sh":  # something that is no Python
        python = str(tmp_path / "python")
        Path(python).write_text("#!/bin/sh\necho no\n")
        Path(python).chmod(0o755)
    [check] = machine_checks.another_environment(python)
    assert (check.verdict, "--python" in check.fix) == (FAIL, True)
    assert check.evidence.startswith("cellpose3: ")


@pytest.mark.slow
def test_another_environment_is_examined_by_its_python() -> None:
    checks = {check.name: check for check in machine_checks.another_environment(sys.executable)}
    assert {"engine", "accelerator", "computes cpu"} <= checks.keys()
    assert checks["engine"].evidence.startswith("cellpose3 3.")
    assert checks["computes cpu"].verdict == OK
