"""A SLURM cluster of namespace hosts: two partitions, a preempted job, a node that fails; and a job that is a fleet.

slurmctld, slurmd and munge are Debian's. The shared folder is /var/tmp, which all hosts have; /tmp is each host's own.
Samples are the simulated engine's, so that times mean nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hosts
import pytest
from hosts import Done, Host

from harness.store import Store, read_journal

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
MISSING = [name for name in PROGRAMS if not shutil.which(name, path="/usr/sbin:/usr/bin")]
LACKING = hosts.why_not() or (
    f"needs {', '.join(MISSING)}: apt-get install slurmctld slurmd slurm-client munge" if MISSING else None
)
pytestmark = [pytest.mark.slow, pytest.mark.fleet, pytest.mark.skipif(bool(LACKING), reason=str(LACKING))]

CONF = """
ClusterName=namespaces
SlurmctldHost=login
SlurmUser=root
AuthType=auth/munge
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=5
KillWait=2
MpiDefault=none
SchedulerParameters=bf_interval=1,sched_interval=2
StateSaveLocation=/run/slurm/state
SlurmdSpoolDir=/run/slurm/spool
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
NodeName=n1 CPUs=1 RealMemory=500 Gres=gpu:sim:1
NodeName=n2,n3,n4,n5 CPUs=1 RealMemory=500
PartitionName=gpu Nodes=n1 MaxTime=60 PriorityTier=1 GraceTime=5
PartitionName=cpu Nodes=n2,n3 MaxTime=60 Default=YES PriorityTier=1
PartitionName=old Nodes=n4 MaxTime=60
PartitionName=new Nodes=n5 MaxTime=60
PartitionName=urgent Nodes=n1 MaxTime=60 PriorityTier=10 PreemptMode=OFF
"""
PROFILE = """
models = ["sleep"]
crops = [96, 128]
devices = ["cpu"]
warmups = 1
repeats = 12
control = false
idle_wait_s = 0
"""
SCRIPT = {"call_s": 0.4}
WRONG = {
    "--partitions gpu,tpu": "this cluster has no partition tpu",
    "--partitions gpu/gpu:a100": "partition gpu has no GRES gpu:a100",
    "--partitions cpu --time 2h": "longer than the partition allows",
    "--partitions cpu --out /tmp/results": "other nodes do not have this folder",
    "--partitions cpu --sbatch --licenses=none:1": "sbatch rejects the job cpu",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cellbench-shared-", dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[dict[str, Host]]:
    files = {
        "/run/slurm/slurm.conf": (0o644, CONF),
        "/run/slurm/gres.conf": (0o644, "NodeName=n1 Name=gpu Type=sim File=/dev/null\n"),
        "/run/munge/key": (0o600, "a secret of all hosts " * 4),
        "/run/slurm/state/empty": (0o644, ""),
        "/run/slurm/spool/empty": (0o644, ""),
    }
    names = ["login", "n1", "n2", "n3", "n4", "n5"]
    with hosts.lan(names, tmp_path_factory.mktemp("slurm"), dict.fromkeys(names, files)) as lan:
        for host in lan.values():
            munge = host.run(
                "chmod 755 /run/munge; munged --force --key-file=/run/munge/key --log-file=/run/munge/log"
                " --pid-file=/run/munge/pid --seed-file=/run/munge/seed --socket=/run/munge/munge.socket.2"
            )
            assert munge.code == 0, munge.text
            program = "slurmctld" if host.name == "login" else "slurmd"
            done = host.run(f"{program} -f /run/slurm/slurm.conf -L /run/slurm/log")
            assert done.code == 0, done.text
        until(lambda: "idle" in slurm(lan["login"], "sinfo -h -o '%n %t' -p cpu").text)
        yield lan


def slurm(host: Host, command: str) -> Done:
    return host.run(f"export SLURM_CONF=/run/slurm/slurm.conf; {command}")


def until(is_so: Callable[[], object], patience_s: float = 60, state: Callable[[], str] = str) -> None:
    end_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < end_s, state()
        time.sleep(0.3)


@dataclass(frozen=True)
class Story:
    """What happened: the answers to wrong requests, the state of each job, the logs, and the results in the end."""

    wrong: dict[str, Done]
    preempted_run: str
    states: set[str]
    logs: dict[str, str]
    store: Store
    fleet: Store


@pytest.fixture(scope="module")
def story(cluster: dict[str, Host], shared: Path) -> Story:
    login = cluster["login"]
    (shared / "script.json").write_text(json.dumps(SCRIPT))
    (shared / "tiny.toml").write_text(PROFILE)
    environment = f"cd {shared}; export CELLBENCH_SIMULATED={shared} CELLBENCH_OUT='{shared}/the results';"
    submit = f"{environment} ~/cellbench/.venv/bin/cellbench slurm submit --profile tiny.toml"
    as_fleet = slurm(login, f"{submit} --partitions old,new --as-fleet --out {shared}/fleet")
    submitted = slurm(login, f"{submit} --partitions gpu/gpu:sim,cpu")
    assert as_fleet.code == submitted.code == 0, as_fleet.text + submitted.text
    [folder] = (shared / "the results/slurm").iterdir()
    preempted, failed = folder / "stores/gpu-gpu-sim", folder / "stores/cpu"
    until(lambda: len(samples(preempted)) > 3)
    [preempted_run] = {row["run_id"] for row in samples(preempted)}
    slurm(login, "sbatch --job-name=urgent --partition=urgent --output=/dev/null --wrap=true")
    until(lambda: len(samples(failed)) > 3)
    fail(cluster["n2"])
    wrong = {words: slurm(login, f"{submit} {words}") for words in WRONG}

    def is_over() -> bool:
        jobs = jobs_of(login)
        is_free = any(job["JobName"] == "urgent" and job["JobState"] == "COMPLETED" for job in jobs)
        for job in jobs if is_free else ():
            if job["Reason"] == "BeginTime":  # SLURM waits for two minutes before it starts a job again
                slurm(login, f"scontrol update JobId={job['JobId']} StartTime=now")
        return all(job["JobState"] in ("COMPLETED", "FAILED") for job in jobs)

    def logs() -> dict[str, str]:
        return {path.stem: path.read_text() for path in sorted(shared.glob("*/slurm/*/*.log"))}

    until(is_over, 240, lambda: slurm(login, "squeue").text + "\n".join(logs().values()))
    states = {job["JobState"] for job in jobs_of(login)}
    return Story(wrong, preempted_run, states, logs(), Store.at(shared / "the results"), Store.at(shared / "fleet"))


def samples(store: Path) -> list[dict[str, object]]:
    """The samples of the only journal in a job's copy; none while there is no journal."""
    found = list((store / "journal").glob("*.arrows"))
    return read_journal(found[0]).to_pylist() if found else []


def fail(host: Host) -> None:
    """Take a host away as a power cut does: everything on it ends at once."""
    os.kill(host.init_pid, signal.SIGKILL)


def jobs_of(login: Host) -> list[dict[str, str]]:
    """Each job's fields in the output of scontrol."""
    text = slurm(login, "scontrol --oneliner show jobs").text
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines() if "JobId=" in line]


def timed(store: Store) -> dict[str, Counter[tuple[str, str]]]:
    """How many timed repetitions of each crop ended in each status, by node."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for row in store.table().to_pylist():
        if row["role"] == "timed":
            counts[row["node"]][row["crop"], row["status"]] += 1
    return counts


WHOLE = {("96", "ok"): 12, ("128", "ok"): 12}


def test_a_preempted_job_resumes_its_run(story: Story) -> None:
    assert timed(story.store)["n1"] == WHOLE, story.logs
    rows = [row for row in story.store.table().to_pylist() if row["node"] == "n1"]
    assert {row["run_id"] for row in rows} == {story.preempted_run}
    assert "DUE TO PREEMPTION" in story.logs["gpu-gpu-sim"]


def test_the_job_of_a_failed_node_starts_again_on_another_one(story: Story) -> None:
    counts = timed(story.store)
    assert counts["n3"] == WHOLE, story.logs
    assert counts["n2"], "the samples of the failed node are lost"
    assert all(counts["n2"][key] <= n for key, n in WHOLE.items())


def test_the_merge_waits_for_the_last_job(story: Story) -> None:
    assert story.states == {"COMPLETED"}, story.logs
    assert {row["node"] for row in story.store.table().to_pylist()} == {"n1", "n2", "n3"}


def test_the_nodes_of_a_fleet_are_measured_within_one_job(story: Story) -> None:
    assert timed(story.fleet) == {"n4": WHOLE, "n5": WHOLE}, story.logs["fleet"]
    assert {row["dispatch"] for row in story.fleet.table().to_pylist()} == {"ray"}


@pytest.mark.parametrize("words", WRONG)
def test_a_request_that_the_cluster_cannot_grant_is_rejected(story: Story, words: str) -> None:
    assert (story.wrong[words].code, "fix: " in story.wrong[words].text) == (2, True)
    assert WRONG[words] in story.wrong[words].text
