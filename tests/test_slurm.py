"""Jobs for SLURM: scripts as texts, requests that no cluster can grant, and jobs that stop and start again."""

from __future__ import annotations

import errno
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from typer.testing import CliRunner

from harness import files
from harness.cli.app import app
from harness.engines import registry
from harness.engines.base import ModelFiles
from harness.errors import CellbenchError
from harness.plan import config
from harness.plan.cases import Block, Case, Task
from harness.run import resume
from harness.run.resume import Manifest
from harness.slurm import cluster, job, limits, scripts, shared
from harness.slurm.cluster import Partition
from harness.slurm.scripts import Batch, Target
from harness.store import Store, read_journal
from tests.conftest import CPU_DEVICE, RUN_ID, TWICE, make_sample, make_store
from tests.test_locks import WITHOUT, flock

TARGETS = (Target("cpu"), Target("gpu", "gpu:a100:2"))
SINFO = """\
cpu|1-00:00:00|64+|(null)|up
gpu|2:00:00|16|gpu:a100:4(S:0-1),gpu:l40:2|up
gpu|2:00:00|8|gpu:v100:2|up
old|infinite|4|(null)|down
"""
KNOWN = cluster.read(SINFO)
TINY = """
models = ["sleep"]
crops = [96]
devices = ["cpu"]
warmups = 1
repeats = 6
control = false
idle_wait_s = 0
"""

SMALL = f'image = "small.tif"\n{TINY}'


def batch(**changes: Any) -> Batch:
    fields: dict[str, Any] = {
        "folder": Path("/shared/results/slurm/S"), "out": Path("/shared/results"), "profile": "article",
        "weights": "published", "targets": TARGETS, "minutes": (30, 45), "merge_partition": "cpu",
        "command": ("/opt/bin/python", "-m", "harness"),
    }  # fmt: skip
    return Batch(**fields | changes)


MEASURING = """\
#!/bin/bash
#SBATCH --job-name=cellbench-gpu-gpu-a100-2
#SBATCH --partition=gpu
#SBATCH --time=45
#SBATCH --output=/shared/results/slurm/S/gpu-gpu-a100-2.log
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --gres=gpu:a100:2
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --account=lab
cellbench=(/opt/bin/python -m harness)
trap '' TERM  # the step saves its samples, and SLURM ends the job
srun --ntasks-per-node=1 --cpu-bind=none sh -c 'trap "" TERM; exec "$@"' sh "${cellbench[@]}" slurm measure \
--profile article --weights published --to /shared/results/slurm/S/stores/gpu-gpu-a100-2
"""


def test_the_script_of_a_measuring_job() -> None:
    assert scripts.texts(batch(options=("--account=lab",)))["gpu-gpu-a100-2"] == MEASURING


VARIED = {
    "plain": {},
    "odd names": {"folder": Path('/sh\'ared/$x `y` "z" 100%/S'), "out": Path('/sh\'ared/$x `y` "z" 100%')},
    "image": {"image": Path("/images/cell bench.sif")},
    "options": {"options": ("--account=lab", "--comment=it's 5 $", "-q high")},
}


@pytest.mark.parametrize("changes", VARIED.values(), ids=VARIED)
@pytest.mark.parametrize("as_fleet", [False, True], ids=["jobs", "fleet"])
def test_every_script_is_bash_without_a_remark_of_shellcheck(changes: dict[str, Any], as_fleet: bool) -> None:
    checker = ["shellcheck", "--severity=warning", "-"] if shutil.which("shellcheck") else ["bash", "-n"]
    for name, text in scripts.texts(batch(**changes), as_fleet).items():
        done = subprocess.run(checker, input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), name


@pytest.mark.parametrize("changes", VARIED.values(), ids=VARIED)
def test_names_reach_the_program_unchanged(changes: dict[str, Any], tmp_path: Path) -> None:
    """The words behind the program, as bash splits them."""
    plan = batch(**changes, command=("printf", r"%s\n"))
    for name in ("srun", "apptainer"):  # they call what follows their own options
        (tmp_path / name).write_text('#!/bin/bash\nwhile [[ "$1" != sh && "$1" != cellbench ]]; do shift; done\n"$@"\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / "cellbench").write_text("#!/bin/bash\nprintf '%s\n' \"$@\"\n")
    (tmp_path / "cellbench").chmod(0o755)
    text = scripts.texts(plan)["cpu"]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", text], env={"PATH": path}, capture_output=True, text=True, check=True)
    expected = ["slurm", "measure", "--profile", "article", "--weights", "published", "--to", str(plan.store("cpu"))]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.mark.parametrize(
    "text", ["", ",", "cpu,", "a b", "--x", "cpu;rm", "$(x)", "gpu/", "gpu/gpu:a:1:2", "cpu\n#", "é"]
)
def test_a_text_that_is_no_partition_is_rejected(text: str) -> None:
    with pytest.raises(CellbenchError) as caught:
        scripts.targets(text)
    assert caught.value.where == "--partitions"
    assert caught.value.fix


def test_a_partition_is_listed_once() -> None:
    assert scripts.targets("cpu, gpu/gpu:a100:2") == TARGETS
    with pytest.raises(CellbenchError, match="gpu-a is listed twice"):
        scripts.targets("gpu-a,gpu/a")


@pytest.mark.parametrize(
    "text",
    ["--array=1-5", "--wrap=true", "--output=x", "lab", "--qos 'x", "'--x=1\n#SBATCH --y'", "-- rm", "--signal=x"],
)
def test_an_option_that_the_jobs_cannot_have_is_rejected(text: str) -> None:
    with pytest.raises(CellbenchError) as caught:
        scripts.options(text)
    assert caught.value.where == "--sbatch"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("30:00", 30),
        ("2:00:00", 120),
        ("1-00:00:00", 1440),
        ("2-01:30:00", 2970),
        ("infinite", math.inf),
        ("0:30", 0.5),
    ],
)
def test_a_time_limit_is_read(text: str, minutes: float) -> None:
    assert cluster.minutes(text) == minutes


def test_the_partitions_are_read() -> None:
    assert (KNOWN["cpu"].limit_min, KNOWN["cpu"].cpus, KNOWN["cpu"].gres) == (1440, 64, set())
    assert (KNOWN["gpu"].cpus, KNOWN["gpu"].gres) == (8, {"gpu:a100", "gpu:l40", "gpu:v100"})
    assert [name for name, each in KNOWN.items() if each.has_gpu] == ["gpu"]


@pytest.mark.parametrize(
    ("text", "merge", "message"),
    [
        ("tpu", "cpu", "no partition tpu"),
        ("cpu", "tpu", "no partition tpu"),
        ("old", "cpu", "old is down"),
        ("gpu/gpu:h100", "cpu", "no GRES gpu:h100"),
        ("gpu/gpu:a10", "cpu", "no GRES gpu:a10"),
        ("cpu/gpu", "cpu", "no GRES gpu"),
    ],
)
def test_what_the_cluster_lacks_is_rejected(text: str, merge: str, message: str) -> None:
    with pytest.raises(CellbenchError, match=message) as caught:
        cluster.check(scripts.targets(text), merge, KNOWN)
    assert caught.value.fix


@pytest.mark.parametrize("text", ["cpu", "gpu", "gpu/gpu", "gpu/gpu:a100", "gpu/gpu:v100:2", "cpu,gpu/gpu:l40:1"])
def test_what_the_cluster_has_is_accepted(text: str) -> None:
    cluster.check(scripts.targets(text), "cpu", KNOWN)


ARTICLE = config.load("article")
SIZE = (2160, 2560)


def test_the_limit_is_three_times_the_estimate_and_at_most_the_partitions() -> None:
    target, wide = Target("cpu"), Partition("cpu", math.inf, 8, True)
    expected_min = limits.estimate_min(ARTICLE, SIZE, target, wide)
    assert limits.minutes(ARTICLE, SIZE, target, wide) == math.ceil(3 * expected_min)
    assert limits.minutes(ARTICLE, SIZE, target, Partition("cpu", 2 * expected_min, 8, True)) == math.ceil(
        2 * expected_min
    )
    assert limits.minutes(ARTICLE, SIZE, target, wide, 2 * expected_min) == math.ceil(2 * expected_min)
    for limit_min, requested_min in ((expected_min, None), (math.inf, expected_min / 2), (60, 61)):
        with pytest.raises(CellbenchError) as caught:
            limits.minutes(ARTICLE, SIZE, target, Partition("cpu", limit_min, 8, True), requested_min)
        assert caught.value.fix


def test_a_partition_with_gpus_is_planned_with_one() -> None:
    on = {name: limits.estimate_min(ARTICLE, SIZE, Target(name), KNOWN[name]) for name in ("cpu", "gpu")}
    assert all(minutes > 0 for minutes in on.values())
    only_gpu = config.load("article", {"devices": ("cuda",)})
    with pytest.raises(CellbenchError, match="no device cuda"):
        limits.estimate_min(only_gpu, SIZE, Target("cpu"), KNOWN["cpu"])


# ---------------------------------------------------------------- the shared folder


MOUNTS = """\
/dev/sda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
lustre /scratch\\040space lustre rw,noflock 0 0
tmpfs /home/fast tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/x", "ext4"),
        ("/home/u", "nfs4"),
        ("/homes", "ext4"),
        ("/scratch space/a", "lustre"),
        ("/home/fast/u", "tmpfs"),
    ],
)
def test_the_file_system_of_a_folder(folder: str, kind: str) -> None:
    assert shared.file_system(Path(folder), MOUNTS) == kind


@pytest.mark.parametrize("number", WITHOUT)
def test_a_folder_without_locks_is_noticed_and_takes_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    make_store(tmp_path / "S/stores/cpu", [make_sample(repetition=i) for i in range(3)])
    make_store(tmp_path / "out", [make_sample(run_id="20260101T000000Z-000000")])
    own = tmp_path / "local"
    own.mkdir()
    monkeypatch.setattr(job.tempfile, "tempdir", str(own))
    real = job.Store.make

    def make(root: Path | str) -> Store:
        if Path(root).is_relative_to(own):
            return real(root)
        with flock(monkeypatch, number):
            return real(root)

    monkeypatch.setattr(job.Store, "make", make)
    with flock(monkeypatch, number):
        assert any("no file locks" in notice for notice in shared.notices(tmp_path))
    [stored] = job.merge(tmp_path / "S", ["cpu"], tmp_path / "out")
    assert (stored.n_samples, stored.nodes) == (3, (make_sample()["node"],))
    assert Store.at(tmp_path / "out").table().num_rows == 4


def test_a_slow_folder_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit_s, is_noticed in ((math.inf, False), (0.0, True)):
        monkeypatch.setattr(shared, "SLOW_S", limit_s)
        assert any(" is slow: " in notice for notice in shared.notices(tmp_path)) == is_noticed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/dev/shm/results", "TMP/results"])
def test_a_folder_that_other_nodes_cannot_have_is_rejected(folder: str) -> None:
    with pytest.raises(CellbenchError, match="other nodes do not have this folder"):
        shared.check(Path(folder.replace("TMP", job.tempfile.gettempdir())))


# ---------------------------------------------------------------- a job


def begun(root: Path, node: str, is_complete: bool, run_id: str = RUN_ID) -> None:
    """A store with one run of a node, as `cellbench run` leaves it."""
    task = Task("timed", Case("224", 224, 224, "standard"), 0)
    block = Block(0, CPU_DEVICE, (task,), TWICE, 0.0, node, 1, "simulated")
    rows = [make_sample(run_id=run_id, node=node, device="cpu", block=0, position=0, repetition=i,
                        stop_reason="repeats" if is_complete and i else None) for i in range(2)]  # fmt: skip
    store = make_store(root, rows)
    resume.write(store, Manifest(run_id, "run", config.load("quick"), "", {}, {}, None, False, (block,)))


def test_a_job_begins_continues_or_has_nothing_to_do(tmp_path: Path) -> None:
    work = ["--profile", "quick"]
    begin = ["run", "--no-ray", *work]
    assert job.next_command(tmp_path, work, "n1") == begin
    begun(tmp_path, "n1", is_complete=False)
    assert job.next_command(tmp_path, work, "n1") == ["resume", RUN_ID]
    assert job.next_command(tmp_path, work, "n2") == begin
    later = "20260202T030405Z-abc123"
    begun(tmp_path, "n2", is_complete=True, run_id=later)
    assert job.next_command(tmp_path, work, "n1") == ["resume", RUN_ID]
    assert job.next_command(tmp_path, work, "n2") is None


def test_a_copy_has_what_is_new_and_no_journal_that_became_samples(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with Store.make(here).journal(RUN_ID) as journal:
        for repetition in range(2):
            journal.append([make_sample(repetition=repetition)])
            job.copy(here, there)
            assert read_journal(there / "journal" / journal.path.name).num_rows == repetition + 1
    job.copy(here, there)
    assert not list(there.rglob("*.arrows"))
    assert Store.at(there).table().num_rows == 2
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*.parquet")}
    job.copy(here, there)
    assert {path: path.stat().st_mtime_ns for path in there.rglob("*.parquet")} == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_home_that_takes_no_files_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    home = tmp_path / "home"
    (home / "engines/cellpose4").mkdir(parents=True)
    monkeypatch.setenv("CELLBENCH_HOME", str(home))
    lines: list[str] = []
    assert job.environment(tmp_path / "scratch", os.environ, lines.append)["CELLBENCH_HOME"] == str(home)

    def full(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(job.tempfile, "TemporaryFile", full)
    made = job.environment(tmp_path / "scratch", os.environ, lines.append)
    assert Path(made["CELLBENCH_HOME"], "engines/cellpose4").is_dir()
    assert os.strerror(number) in lines[0]


def written(scratch: Path) -> list[dict[str, object]]:
    """The samples in the journal of the job that measures there."""
    return [row for path in scratch.glob("cellbench-*/*/journal/*.arrows") for row in read_journal(path).to_pylist()]


def until(is_so: Callable[[], bool], patience_s: float = 60) -> None:
    end_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.05)


@pytest.mark.slow
def test_a_signal_while_a_job_starts_is_ignored_and_a_later_one_loses_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SLURM does, every process of the job is signalled, twice; then a second job resumes the run."""
    (tmp_path / "script.json").write_text('{"call_s": 0.5}')
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setenv("CELLBENCH_SIMULATED", str(tmp_path))
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path))
    store = tmp_path / "store"
    plan = batch(profile=str(tmp_path / "tiny.toml"), weights="auto", command=(sys.executable, "-m", "harness"))
    step = scripts.texts(plan)["cpu"].partition(" sh -c ")[2].replace(str(plan.store("cpu")), str(store))
    command = f"cellbench=({shlex.join(plan.command)}); exec sh -c {step}"
    with subprocess.Popen(["bash", "-c", command], stderr=subprocess.PIPE, text=True) as first:
        job_ = psutil.Process(first.pid)
        while not job_.name().startswith("python"):
            time.sleep(0.01)
        job_.terminate()
        until(lambda: len(written(tmp_path)) > 0)
        measuring = next(each for each in job_.children(recursive=True) if "harness.measure.child" in each.cmdline())
        measuring.terminate()
        n_written = len(written(tmp_path))
        until(lambda: len(written(tmp_path)) > n_written)
        for process in [job_, *job_.children(recursive=True)] * 2:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        output = first.communicate(timeout=60)[1]
    assert first.returncode == job.STOPPED, output
    half = Store.at(store).table().to_pylist()
    assert {row["status"] for row in half} == {"ok"}, "the death of the measuring process was stored as a crash"
    assert not list(tmp_path.glob("cellbench-*")), "the scratch folder is left behind"
    subprocess.run(["bash", "-c", command], check=True, capture_output=True, timeout=60)
    rows = [row for row in Store.at(store).table().to_pylist() if row["role"] == "timed"]
    assert (len(rows), len({row["run_id"] for row in rows})) == (6, 1)


# ---------------------------------------------------------------- the command


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A login node whose SLURM takes every job but those of a partition that it calls full; yields its records."""
    programs = {
        "sinfo": f"cat <<'EOF'\n{SINFO}full|infinite|4|(null)|up\nEOF\n",
        "sbatch": f'echo "$@" >> {tmp_path}/calls\n'
        'case "$*" in *full.sh) echo "sbatch: error: no room" >&2; exit 1;; esac\n'
        f"wc -l < {tmp_path}/calls\n",
        "scancel": f'echo cancel "$@" >> {tmp_path}/calls\n',
    }
    for name, text in programs.items():
        files.write(tmp_path / "bin" / name, f"#!/bin/sh\n{text}", mode=0o755, make_folder=True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(shared, "check", lambda folder: None)
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((96, 96), np.uint8))
    files.write(tmp_path / "tiny.toml", SMALL)
    return tmp_path


def submit(*words: str) -> Any:
    return CliRunner().invoke(app, ["slurm", "submit", "--profile", "tiny.toml", *words])


def test_the_merge_depends_on_every_job(login: Path) -> None:
    done = submit("--partitions", "cpu,gpu/gpu:a100")
    assert done.exit_code == 0, done.output
    first, second, last = (login / "calls").read_text().splitlines()
    assert (first[-6:], second.rpartition("/")[2]) == ("cpu.sh", "gpu-gpu-a100.sh")
    assert "--dependency=afterany:1:2 " in last
    [folder] = (login / "results/slurm").iterdir()
    assert str(folder / "tiny.toml") in (folder / "cpu.sh").read_text()
    assert (folder / "tiny.toml").read_text() == SMALL


def test_jobs_are_submitted_all_or_none(login: Path) -> None:
    done = submit("--partitions", "cpu,full")
    assert isinstance(done.exception, CellbenchError)
    assert "no room" in done.exception.what
    assert (login / "calls").read_text().splitlines()[-1] == "cancel 1"
    assert not list((login / "results/slurm").iterdir())


@pytest.mark.parametrize("kind", ["published", "standin"])
def test_a_node_without_published_weights_measures_no_others(
    login: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    engine = registry.engine("simulated")
    monkeypatch.setattr(engine, "resolve", lambda model, *_: ModelFiles(model, kind, (), {}), raising=False)
    assert (
        f"--weights {'published' if kind == 'published' else 'auto'} "
        in submit("--partitions", "cpu", "--dry-run").output
    )


def test_a_dry_run_prints_the_scripts_and_writes_nothing(login: Path) -> None:
    done = submit("--partitions", "cpu,gpu", "--dry-run", "--as-fleet")
    assert done.output.count("#!/bin/bash") == 2
    assert not (login / "results").exists()
    assert not (login / "calls").exists()


def test_a_machine_without_slurm_submits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = submit("--partitions", "cpu")
    assert isinstance(done.exception, CellbenchError)
    assert done.exception.what == "this machine has no sbatch"
