"""Facts about this machine and about recorded ones, and where this code comes from."""

import json
import subprocess
from pathlib import Path

import psutil
import pytest

from harness import schema
from harness.machine import probe
from harness.machine.probe_io import Sources
from tests import recorded


def test_the_columns_of_a_sample() -> None:
    columns = probe.facts()
    assert columns.keys() <= set(schema.ARROW.names)
    assert columns["n_cores"] == probe.n_cores() >= 1
    assert columns["cpu_model"] == probe.cpu_model()


def test_this_machine() -> None:
    told = probe.environment()
    assert told["ram_bytes"] == psutil.virtual_memory().total
    assert told["cpu_model"] in (probe.cpu_model(), None)
    assert told["cpu_logical_cores"] == psutil.cpu_count()
    assert 0 < told["clock_resolution_ns"] <= 1000
    assert told["uptime_s"] > 0
    assert told["temp_free_bytes"] > 0
    assert json.loads(json.dumps(told)) == told


def test_a_container_on_a_virtual_machine(tmp_path: Path) -> None:
    told = probe.environment(recorded.linux(tmp_path, recorded.CONTAINER))
    assert (told["container"], told["virtualisation"]) == ("docker", "unnamed")
    # It shows neither topology nor clocks nor sensors.
    unknown = ("cpu_physical_cores", "cpu_sockets", "smt", "cpu_mhz", "cpu_temperature_c", "power_source", "os_name")
    assert [told[name] for name in unknown] == [None] * len(unknown)
    assert told["cpu_logical_cores"] == 2


def test_every_system_tells_the_same_facts(tmp_path: Path) -> None:
    machines = [
        recorded.linux(tmp_path / "laptop", recorded.LAPTOP),
        recorded.linux(tmp_path / "server", recorded.SERVER),
        recorded.linux(tmp_path / "arm", recorded.ARM),
        recorded.mac(recorded.MAC, tmp_path),
    ]
    here = probe.environment().keys()
    assert [probe.environment(machine).keys() == here for machine in machines] == [True] * len(machines)


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
    told = probe.environment(recorded.linux(tmp_path, {}, environ))
    assert told["thread_settings"] == "MKL_NUM_THREADS=6 OMP_NUM_THREADS=6"
    assert told["torch_settings"] == "PYTORCH_ENABLE_MPS_FALLBACK=1"
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
