"""`cellbench doctor`: the problems of this machine that would make its numbers wrong, before anything is measured.

examine() is the list. Each check is a function of its inputs, so that it can be tested. Checks that need torch run in
the worker's child (harness.measure.selfcheck); those of the installation are in harness.doctor.installation.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from harness import files, settings
from harness.doctor import installation
from harness.engines import environments, registry
from harness.errors import CellbenchError
from harness.machine import folders, interference, probe
from harness.machine.checks import FAIL, OK, SKIPPED, WARN, Check, attempt
from harness.machine.probe_io import Sources
from harness.measure import parent
from harness.measure.wire import SelfcheckRequest

N_READS = 10_000
STEP_NS = 1_000  # the shortest repetitions take 0.1 s, of which this is 0.001 %
WALL_SPAN_S = 0.2
WALL_SHARE = 0.01  # NTP slews a clock by 0.05 %, chrony at its worst by 8 %; reading two clocks costs far less
# A sample takes less than 5 kB in journal and Parquet together, so this is enough for 20,000.
OUT_BYTES = 100_000_000
# The image as .npy (11 MB for the article's), Ray's logs and, where /dev/shm is too small, its object store (100 MB).
TEMP_BYTES = 300_000_000
# Peak resident memory of a process that segments 2160 x 2560 px on the CPU, libraries included (the memory pass):
# 1.62 GB for the built-in image sparse and 1.73 GB for dense (cellpose 3.1.1.3, torch 2.13, two threads).
FULL_CALL_BYTES = 1_800_000_000
LOW_MODES = ("low", "low-power", "power-saver", "quiet", "cool")  # macOS; ACPI profiles; power-profiles-daemon
# Drivers whose governor "powersave" follows the load; a preference rules them (kernel: admin-guide/pm/intel_pstate).
OWN_GOVERNORS = ("intel_pstate", "amd-pstate-epp")
LOW_PREFERENCES = {"power", "balance_power"}
# Folders that macOS keeps background jobs out of, or that its cloud empties.
PRIVATE_FOLDERS = ("Desktop", "Documents", "Downloads", "Library/Mobile Documents", "Library/CloudStorage")


def examine(out: Path, address: str | None = None, sources: Sources | None = None) -> Iterator[Check]:
    """Run all checks, each result as soon as it is there; a check that raises is a failed check.

    out: folder of results, may be missing. address: HOST:PORT of Ray's head; RAY_ADDRESS unless given.
    """
    sources = sources or Sources()
    address = address or sources.environ.get("RAY_ADDRESS")
    environment = cache(probe.environment)
    looks: dict[str, Callable[[], Check | list[Check]]] = {
        "load": load,  # first, while no other check runs
        "clock": clock,
        "wall clock": wall_clock,
        "power": lambda: power(environment()),
        "container": lambda: container(environment(), probe.n_cores()),
        "memory": lambda: memory(environment().get("cgroup_memory_limit_bytes")),
        "results": partial(results, out, sources.environ),
        "disk": partial(disk, out),
        "home": lambda: home(folders.home()),
        "versions": installation.versions,
        "packages": installation.hidden,
        "weights": lambda: registry.engine(registry.DEFAULT).check(registry.default_model()),
        "other nodes": lambda: installation.other_nodes(out, probe.facts()),
        "ray": lambda: installation.ray_head(address),
        "ray token": lambda: installation.ray_token(address, sources.environ, Path.home()),
        "devices": devices,
    }
    if sources.system == "darwin":
        looks["macOS"] = lambda: macos(sources, out, address, Path.home())
    for name, look in looks.items():
        yield from attempt(name, look)


def another_environment(python: str) -> Iterator[Check]:
    """Check that another environment, such as a GUI's, uses the devices of this machine.

    python: its interpreter. The engine in it is started there as in a measurement.
    """
    flaws = []
    for name in registry.names():
        if not registry.engine(name).requirement:
            continue
        try:
            version = parent.version(environments.find(name, python))
        except CellbenchError as error:
            flaws.append(f"{name}: {error.what}")
            continue
        yield Check("engine", OK, f"{name} {version} in {python}")
        yield from attempt("devices", lambda name=name: devices(partial(parent.ask, engine=name, python=python)))
        return
    yield Check("engine", FAIL, "; ".join(flaws), "give the Python of an environment that has cellpose: --python PATH")


def devices(ask: Callable[..., list[dict[str, Any]]] = parent.ask) -> list[Check]:
    """The checks of the child process: threads, and each device's results and clock."""
    return [Check(**found) for found in ask(SelfcheckRequest((), probe.n_cores()))]


# ---------------------------------------------------------------- time


def clock(now_ns: Callable[[], int] = time.perf_counter_ns) -> Check:
    """Check that the clock of the measurements never goes back and has small enough steps."""
    steps_ns = [after - before for before, after in pairwise([now_ns() for _ in range(N_READS)])]
    smallest_ns = min((step for step in steps_ns if step > 0), default=None)
    evidence = f"{time.get_clock_info('perf_counter').implementation}, read {N_READS:,} times: "
    if min(steps_ns) < 0:
        fix = "restart the machine; a virtual one may need another clock source (/sys/devices/system/clocksource)"
        return Check("clock", FAIL, f"{evidence}it went back by {-min(steps_ns):,} ns", fix)
    if smallest_ns is None or smallest_ns > STEP_NS:
        seen = "it did not move" if smallest_ns is None else f"its smallest step was {smallest_ns:,} ns"
        fix = "see /sys/devices/system/clocksource/clocksource0/current_clocksource: tsc and kvm-clock are fine"
        return Check("clock", WARN, f"{evidence}{seen}", fix)
    return Check("clock", OK, f"{evidence}never back, smallest step {smallest_ns} ns")


def wall_clock(
    now_ns: Callable[[], int] = time.perf_counter_ns,
    wall_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Check:
    """Check that the clock that labels repetitions runs as fast as the one that times them."""

    def both_ns() -> tuple[int, int]:
        # Of five tries the one with the least time between the reads.
        tries = [(now_ns(), wall_ns(), now_ns()) for _ in range(5)]
        before, wall, after = min(tries, key=lambda reads: reads[2] - reads[0])
        return (before + after) // 2, wall

    begin_ns, begin_wall_ns = both_ns()
    sleep(WALL_SPAN_S)
    end_ns, end_wall_ns = both_ns()
    span_ns = end_ns - begin_ns
    gain_ns = end_wall_ns - begin_wall_ns - span_ns
    evidence = f"{gain_ns / 1e3:+,.1f} us against the monotonic clock in {span_ns / 1e9:.2f} s"
    if abs(gain_ns) > WALL_SHARE * span_ns:
        fix = "wait until the time service has set the clock; durations are right, but their dates are not"
        return Check("wall clock", WARN, evidence, fix)
    return Check("wall clock", OK, evidence)


# ---------------------------------------------------------------- load, heat, power


def load(watch: interference.Watch | None = None, sleep: Callable[[float], None] = time.sleep) -> list[Check]:
    """Check that no other program uses the processors, and that heat does not limit them, during one second."""
    finish = (watch or interference.Watch()).begin()
    sleep(interference.LOOK_S)
    seen = finish()
    return [foreign(seen), heat(seen)]


def foreign(seen: Mapping[str, Any]) -> Check:
    """Check that no other program uses the processors; seen: the columns of interference.Watch."""
    share = seen["foreign_cpu_share"]
    if share is None:
        return Check("load", SKIPPED, "not available: the load of other programs")
    evidence = f"others used {share:.1%} of all processors during one second"
    if "load" in seen["flags"].split():
        return Check("load", WARN, evidence, "close what else runs (top shows it)")
    return Check("load", OK, evidence)


def heat(seen: Mapping[str, Any], system: str = sys.platform) -> Check:
    """Check that heat does not limit the processors; seen: the columns of interference.Watch."""
    temperature_c = seen["cpu_temperature_c"]
    evidence = "temperature not known" if temperature_c is None else f"processor at {temperature_c:.0f} °C"
    if stopped_s := seen.get("throttled_s"):
        evidence += f"; a quota stopped this container's processes for {stopped_s:.2f} s"
        return Check("heat", WARN, evidence, "raise the container's quota of processors")
    if hot := [name for name in ("thermal", "throttled") if name in seen["flags"].split()]:
        return Check("heat", WARN, f"{evidence}, flagged {' and '.join(hot)}", "let it cool down, and free its vents")
    if temperature_c is None and system != "darwin":  # macOS reports pressure, not degrees
        return Check("heat", SKIPPED, "not available: the temperature (normal on virtual machines)")
    return Check("heat", OK, f"{evidence}, not limited by heat")


def power(environment: Mapping[str, Any]) -> Check:
    """Check that the machine may run at full speed: mains, mode, clock governor."""
    names = ("power_source", "power_mode", "cpu_governor", "cpu_scaling_driver", "cpu_energy_preference")
    settings = {name: environment[name] for name in names if environment.get(name)}
    source, mode, governor, driver, preference = (settings.get(name, "") for name in names)
    evidence = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
    if not evidence:
        return Check("power", SKIPPED, "not available: power settings (normal on desktops and virtual machines)")
    fixes = []
    if source == "battery":
        fixes.append("plug it in")
    if mode in LOW_MODES:
        fixes.append("choose another power mode (System Settings, Battery; on Linux: powerprofilesctl set performance)")
    if "powersave" in governor.split() and driver not in OWN_GOVERNORS:
        fixes.append("sudo cpupower frequency-set -g performance")
    if LOW_PREFERENCES & set(preference.split()):
        fixes.append("sudo cpupower set --epp performance")
    return Check("power", WARN if fixes else OK, evidence, "; ".join(fixes) or None)


def container(environment: Mapping[str, Any], threads: int) -> Check:
    """Check that no quota stops the threads for part of the time."""
    kind, limit = environment.get("container"), environment.get("cgroup_cpu_limit")
    evidence = f"container: {kind or 'unknown'}; quota of processors: {'none' if limit is None else f'{limit:g}'}"
    if limit is not None and limit < threads:
        fix = "raise the quota to the number of cores (docker run --cpus), or measure outside the container"
        return Check("container", WARN, f"{evidence}, for {threads} threads", fix)
    return Check("container", OK, evidence)


# ---------------------------------------------------------------- room


def memory(
    limit_bytes: int | None,
    read: Callable[[], Any] = psutil.virtual_memory,
    read_swap: Callable[[], Any] = psutil.swap_memory,
) -> Check:
    """Check that the largest call fits into memory; limit_bytes: that of the container, if any."""
    seen = read()
    free_bytes = min(seen.available, seen.available if limit_bytes is None else limit_bytes)
    evidence = (
        f"{free_bytes / 1e9:.1f} of {seen.total / 1e9:.1f} GB available, {read_swap().used / 1e9:.1f} GB swapped out; "
        f"a call on 2160 x 2560 px on the CPU takes {FULL_CALL_BYTES / 1e9:.1f} GB"
    )
    if free_bytes < FULL_CALL_BYTES:
        return Check("memory", WARN, evidence, "close other programs, or leave out the largest crops: --crops")
    return Check("memory", OK, evidence)


def results(out: Path, environ: Mapping[str, str]) -> Check:
    """Where results go, and what names this folder."""
    known = settings.results_folder(environ)
    origin = known.origin if files.expanded(known.path) == files.expanded(out) else "--out"
    return Check("results", OK, f"{files.expanded(out).absolute()} ({origin})")


def disk(out: Path, temporary: Path | None = None, usage: Callable[[Path], Any] = shutil.disk_usage) -> Check:
    """Check that results and temporary files have space; the folder of results need not exist yet."""
    out, temporary = files.expanded(out).absolute(), temporary or Path(tempfile.gettempdir())
    there = next(folder for folder in (out, *out.parents) if os.path.exists(folder))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        flaw = "cannot be written to" if there.is_dir() else "is not a folder"
        return Check("disk", FAIL, f"{there}, where results would go, {flaw}", "give another folder: --out DIR")
    evidence, fixes = [], []
    for folder, purpose, needed_bytes in ((there, "results", OUT_BYTES), (temporary, "temporary files", TEMP_BYTES)):
        free_bytes = usage(folder).free
        evidence.append(f"{free_bytes / 1e9:,.1f} GB free for {purpose} in {folder}")
        if free_bytes < needed_bytes:
            fixes.append(f"make {needed_bytes / 1e6:.0f} MB free in {folder}")
    return Check("disk", FAIL if fixes else OK, "; ".join(evidence), "; ".join(fixes) or None)


def home(folder: Path) -> Check:
    """Check that this program's own folder can be written, and stays; a home may be missing in a container."""
    fix = "set CELLBENCH_HOME to a folder that stays and that you may write to"
    if not folders.is_writable(folder):
        return Check("home", FAIL, f"{folder}, for copies of images and weights, cannot be written", fix)
    if folders.is_temporary(folder):
        return Check("home", WARN, f"own files lie in {folder}, which a restart empties", fix)
    return Check("home", OK, f"own files lie in {folder}")


# ---------------------------------------------------------------- macOS


def macos(sources: Sources, out: Path, address: str | None, home: Path) -> list[Check]:
    """The checks for a Mac only: sleep, a folder that jobs may use, Ray's setting for clusters."""
    found = re.search(r"^\s*sleep\s+(\d+)", sources.run(["/usr/bin/pmset", "-g"]) or "", re.MULTILINE)
    if found is None:
        checks = [Check("sleep", SKIPPED, "not available: pmset does not report when this Mac sleeps")]
    elif int(found[1]):
        evidence, fix = f"this Mac sleeps after {found[1]} min without a user", "caffeinate -is cellbench run …"
        checks = [Check("sleep", WARN, evidence, fix)]
    else:
        checks = [Check("sleep", OK, "this Mac does not sleep by itself")]

    target = files.expanded(out).absolute()
    private = [name for name in PRIVATE_FOLDERS if target.is_relative_to(home / name)]
    evidence = f"results go to {target}"
    if private:
        evidence += ": macOS keeps scheduled jobs out of there, and iCloud may take files away"
        checks.append(
            Check("folder", WARN, evidence, "give a folder elsewhere in your home: --out ~/cellbench-results")
        )
    else:
        checks.append(Check("folder", OK, evidence))

    if address:
        name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
        if sources.environ.get(name) == "1":
            checks.append(Check("ray on macOS", OK, f"{name} is 1"))
        else:
            fix = f"export {name}=1, for every process of Ray on this Mac"
            checks.append(Check("ray on macOS", WARN, f"{name} is not set: Ray uses this Mac only", fix))
    hint = (
        "launchd limits a job unless its plist contains ProcessType Interactive; since macOS 15 only a "
        "LaunchDaemon, not a LaunchAgent, reaches other machines of the local network"
    )
    return [*checks, Check("scheduled runs", OK, hint)]
