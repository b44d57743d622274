"""Facts about this machine and about recorded ones, and where this code comes from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness import schema
from harness.machine import probe, virtualization
from harness.machine.probe_io import Sources
from tests import recorded


def test_the_columns_of_a_sample() -> None:
    columns = probe.facts()
    assert columns.keys() <= set(schema.ARROW.names)
    assert columns["n_cores"] == probe.n_cores() >= 1
    assert columns["cpu_model"] == probe.cpu_model()


def test_this_machine() -> None:
    answer = probe.environment()
    assert answer["ram_bytes"] == psutil.virtual_memory().total
    assert answer["cpu_model"] in (probe.cpu_model(), None)
    assert answer["cpu_logical_cores"] == psutil.cpu_count()
    assert 0 < answer["clock_resolution_ns"] <= 1000
    assert answer["uptime_s"] > 0
    assert answer["temp_free_bytes"] > 0
    assert json.loads(json.dumps(answer)) == answer


def test_a_container_on_a_virtual_machine(tmp_path: Path) -> None:
    answer = probe.environment(recorded.linux(tmp_path, recorded.CONTAINER))
    assert (answer["container"], answer["virtualisation"]) == ("docker", "unnamed")
    # It shows neither topology nor clocks nor sensors.
    unknown = ("cpu_physical_cores", "cpu_sockets", "smt", "cpu_mhz", "cpu_temperature_c", "power_source", "os_name")
    assert [answer[name] for name in unknown] == [None] * len(unknown)
    assert answer["cpu_logical_cores"] == 2


def test_every_system_tells_the_same_facts(tmp_path: Path) -> None:
    machines = [
        recorded.linux(tmp_path / "laptop", recorded.LAPTOP),
        recorded.linux(tmp_path / "server", recorded.SERVER),
        recorded.linux(tmp_path / "arm", recorded.ARM),
        recorded.mac(recorded.MAC, tmp_path),
    ]
    here = probe.environment().keys()
    assert [probe.environment(machine).keys() == here for machine in machines] == [True] * len(machines)


# ------------------------------------------------------------------ how many threads a user gets

QUOTA = "sys/fs/cgroup/system.slice/slurmd.service/cpu.max"
ALLOWED = "proc/self/status"


def allowed(listed: str) -> dict[str, str]:
    """The affinity of this process, as the kernel lists it."""
    return {ALLOWED: f"Name:\tpython\nCpus_allowed_list:\t{listed}\n"}


@pytest.mark.parametrize(("machine", "changes", "n_cores"), [
    # 4 performance cores with two threads each, 8 efficiency cores: torch takes them all.
    (recorded.LAPTOP, {}, 12),
    (recorded.LAPTOP, allowed("0-7"), 4),
    (recorded.LAPTOP, allowed("0-1"), 1),  # both threads of one core
    (recorded.LAPTOP, allowed("0,2"), 2),
    (recorded.LAPTOP, allowed("1,8-9"), 3),
    (recorded.LAPTOP, allowed("0-127"), 12),  # more than are online
    (recorded.ARM, {}, 4),
    (recorded.ARM, allowed("2-3"), 2),
    # Four cores, with a quota on the group around ours.
    (recorded.SERVER, {}, 3),
    (recorded.SERVER, {QUOTA: "200000 100000"}, 2),
    (recorded.SERVER, {QUOTA: "10000 100000"}, 1),
    (recorded.SERVER, {QUOTA: "1600000 100000"}, 4),
    (recorded.SERVER, {QUOTA: "max 100000"}, 4),
    (recorded.SERVER, allowed("3"), 1),
    # A container whose kernel shows no topology.
    (recorded.CONTAINER, {}, 2),
    (recorded.CONTAINER, allowed("1"), 1),
    (recorded.CONTAINER, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000"}, 1),
])  # fmt: skip
def test_a_thread_for_each_core_within_affinity_and_quota(
    tmp_path: Path, machine: dict[str, str], changes: dict[str, str], n_cores: int
) -> None:
    assert probe.n_cores(recorded.linux(tmp_path, machine | changes)) == n_cores


@pytest.mark.parametrize(("sysctl", "n_cores"), [
    (recorded.MAC["/usr/sbin/sysctl -i"], 8),  # 8 performance and 2 efficiency cores
    ("hw.physicalcpu: 8\nhw.logicalcpu: 8\nhw.perflevel0.physicalcpu: 4", 4),
    ("hw.physicalcpu: 6\nhw.logicalcpu: 12", 6),  # an Intel Mac
    ("hw.physicalcpu: 4\nhw.logicalcpu: 4\nhw.perflevel0.physicalcpu: 1", 4),  # torch takes all there
])  # fmt: skip
def test_on_a_mac_the_performance_cores_count(tmp_path: Path, sysctl: str, n_cores: int) -> None:
    assert probe.n_cores(recorded.mac({"/usr/sbin/sysctl -i": sysctl}, tmp_path)) == n_cores


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_a_machine_that_tells_nothing_of_its_cores(tmp_path: Path, system: str) -> None:
    silent = recorded.linux(tmp_path, {}) if system == "linux" else recorded.mac({}, tmp_path)
    assert probe.n_cores(silent) == psutil.cpu_count()


DEFAULT_THREADS = "import torch; from harness.machine import probe; print(torch.get_num_threads(), probe.n_cores())"


@pytest.mark.slow
@pytest.mark.parametrize("affinity", [None, {0}])
def test_torch_takes_as_many_threads_by_itself(affinity: set[int] | None) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system binds no process to processors")
    bind = f"import os; os.sched_setaffinity(0, {affinity}); " if affinity else ""
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", bind + DEFAULT_THREADS], capture_output=True, text=True, check=True, env=environ
    )
    taken, ours = done.stdout.split()
    assert taken == ours or virtualization.cpu_limit(Sources()) is not None  # torch does not heed a quota


def test_openmp_libraries(tmp_path: Path) -> None:
    assert probe.environment(recorded.linux(tmp_path, recorded.LAPTOP))["openmp_runtimes"] == "libgomp-a34b3233.so.1"
    assert probe.environment(recorded.mac(recorded.MAC, tmp_path))["openmp_runtimes"] == "libomp.dylib"
    paths = ["/a/libiomp5.so", "/b/libgomp.so.1", "/c/libgomp.so.1", "/d/libgompertz.so", "/e/libompl.so"]
    assert probe.openmp_runtimes(paths) == "libgomp.so.1 libiomp5.so"
    assert probe.openmp_runtimes([]) is None


def test_settings_are_those_that_matter_and_no_others(tmp_path: Path) -> None:
    environ = {
        "OMP_NUM_THREADS": "6", "MKL_NUM_THREADS": "6", "PYTORCH_ENABLE_MPS_FALLBACK": "1",
        "NUMBA_CACHE_DIR": "/home/me", "TORCH_HOME": "/home/me", "HOME": "/home/me", "MY_OMP_X": "1",
    }  # fmt: skip
    answer = probe.environment(recorded.linux(tmp_path, {}, environ))
    assert answer["thread_settings"] == "MKL_NUM_THREADS=6 OMP_NUM_THREADS=6"
    assert answer["torch_settings"] == "PYTORCH_ENABLE_MPS_FALLBACK=1"
    assert probe.environment(recorded.linux(tmp_path, {}))["torch_settings"] == "none"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit; the package lies in it."""
    package = tmp_path / "checkout" / "harness"
    package.mkdir(parents=True)
    (package / "probe.py").write_text("1")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "first"]):
        subprocess.run(["git", *words], cwd=package.parent, check=True)
    return package


def test_the_commit_of_this_code(checkout: Path) -> None:
    commit = probe.harness_commit(Sources(), checkout)
    assert commit is not None
    assert len(commit) == 40
    (checkout.parent / "notes.txt").write_text("not code")
    assert probe.harness_commit(Sources(), checkout) == commit
    (checkout / "probe.py").write_text("2")
    assert probe.harness_commit(Sources(), checkout) == f"{commit}-dirty"


def test_code_that_nobody_has_committed_is_an_edit(checkout: Path) -> None:
    (checkout / "new.py").write_text("1")
    assert probe.harness_commit(Sources(), checkout).endswith("-dirty")


def test_no_commit_without_a_checkout_or_without_git(checkout: Path) -> None:
    installed = checkout / "site-packages" / "harness"  # inside a checkout, but of something else
    installed.mkdir(parents=True)
    assert probe.harness_commit(Sources(), installed) is None
    assert probe.harness_commit(Sources(run=lambda _: None), checkout) is None
