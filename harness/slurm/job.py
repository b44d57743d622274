"""The work of a job on its node: measure on a local disk, keep a copy in the shared folder, resume, merge.

A job may be stopped at any moment, and may start again on another node. Its store in the shared folder is a copy of
the local one, not older than EVERY_S, and begins the local one of the next attempt.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness import files, schema
from harness.errors import FleetUnreachableError, NoResultsError, StorageError
from harness.fleet import network
from harness.machine import folders
from harness.run import resume
from harness.store import Store

EVERY_S = 60.0  # between two copies; shorter in the first minute
FIRST_S = 2.0
AGAIN_S = 5.0  # between two signals to a command that is to stop
KILL_S = 600.0  # a stopped job waits so long for its end, since only SLURM can end it in the right state
HEAD_S = 300.0
LOOK_S = 5.0  # between two looks at the head
PORT = 6379
ROOM_BYTES = 1 << 20  # of the home folder; compiled parts are not larger
STOPPED = 130
PARTS = ("samples", "runs", "journal")  # of a store, in the order of copying: a journal goes when its samples are there

Log = Callable[[str], None]


@dataclass(frozen=True)
class Stored:
    """What one job has stored. n_left: tasks of its newest run that are not done."""

    name: str
    nodes: tuple[str, ...] = ()
    n_samples: int = 0
    n_failed: int = 0
    n_left: int = 0

    @property
    def is_complete(self) -> bool:
        return self.n_samples > 0 and not self.n_failed and not self.n_left

    def line(self) -> str:
        """The same in words."""
        if not self.n_samples:
            return f"{self.name}: no samples"
        bad = [f"{n} {what}" for n, what in ((self.n_failed, "failed"), (self.n_left, "tasks not done")) if n]
        return ", ".join([f"{self.name}: {self.n_samples} samples of {' and '.join(self.nodes)}", *bad])


def measure(work: Sequence[str], to: Path, log: Log) -> int:
    """Measure this node without Ray, or continue its run; returns the exit code.

    work: the options of `cellbench run`; to: the store in the shared folder.
    """
    with _scratch(to, log) as (store, environ):
        words = next_command(store, work, socket.gethostname())
        if words is None:
            log("every case of this node is stored already: nothing is left to measure")
            return 0
        code = _supervised([*words, "--out", str(store)], store, to, environ, log)
    return _ended(code, log)


def drive(work: Sequence[str], to: Path, n_nodes: int, log: Log) -> int:
    """Be the head of a Ray cluster of n_nodes and measure all of them; returns the exit code."""
    with _scratch(to, log) as (store, environ):
        started = subprocess.run(_program("node", "start", "--head", "--port", PORT), env=environ, check=False)
        if started.returncode:
            return started.returncode
        try:
            run = ("run", *work, "--address", "auto", "--wait-for", str(n_nodes), "--out", str(store))
            code = _supervised(run, store, to, environ, log)
        finally:
            subprocess.run(_program("node", "stop"), env=environ, check=False)
    return _ended(code, log)


def join(head: str, to: Path, log: Log) -> int:
    """Be a node of the Ray cluster of this head until the head leaves; returns the exit code."""
    with _scratch(to, log) as (_, environ):
        end_s = time.monotonic() + HEAD_S
        while not _answers(head):
            if time.monotonic() > end_s:
                fix = "see the log of the job: the head may have failed"
                raise FleetUnreachableError("the head of this job does not answer", f"{head}:{PORT}", fix)
            time.sleep(1)
        words = _program("node", "start", "--address", f"{head}:{PORT}", "--block")
        with subprocess.Popen(words, env=environ) as process:
            while process.poll() is None and _answers(head):
                time.sleep(LOOK_S)
            if (code := process.poll()) is None:
                process.terminate()
                return 0
        return code


def _answers(head: str) -> bool:
    try:
        network.connect(head, PORT)
    except OSError:
        return False
    return True


def next_command(root: Path, work: Sequence[str], node: str) -> list[str] | None:
    """What this node has to do: begin a run, continue its newest one, or nothing (None).

    A run of another node stays as it is: it can be continued only there.
    """
    for path in reversed(files.listed(root / "runs", "*.json")):
        store = Store.at(root)
        manifest = resume.read(store, path.stem)
        if node in {block.node for block in manifest.blocks}:
            return ["resume", manifest.run_id] if resume.left(store, manifest) else None
    return ["run", "--no-ray", *work]


def copy(store: Path, to: Path) -> None:
    """Copy what is new in a store, each file whole or not at all, and remove journals that became samples."""
    for part in PARTS:
        for path in sorted((store / part).rglob("*")):
            if path.is_file() and not files.is_hidden(path.relative_to(store)):
                target = to / path.relative_to(store)
                with suppress(FileNotFoundError):  # a journal became samples just now: the next copy has them
                    if not target.is_file() or target.stat().st_size != path.stat().st_size:
                        files.write(target, path.read_bytes(), make_folder=True, what="results")
    for journal in files.listed(to / "journal", "*.arrows"):
        if not (store / "journal" / journal.name).exists():
            journal.unlink()


def merge(folder: Path, names: Sequence[str], out: Path) -> Iterator[Stored]:
    """Merge the stores of a batch's jobs into a results folder, also where that has no file locks."""
    with tempfile.TemporaryDirectory(prefix="cellbench-") as scratch:
        target = results_at(out, Path(scratch, "results"))
        for name in names:
            here = Path(scratch, "stores", name)
            if (place := folder / "stores" / name).is_dir():
                shutil.copytree(place, here)  # to recover its journal needs a lock
            try:
                source = Store.at(here)
            except NoResultsError:
                yield Stored(name)
                continue
            target.merge(source)
            if Path(target.root) != out:
                copy(Path(target.root), out)
            yield stored(name, source)


def results_at(out: Path, spare: Path) -> Store:
    """The store of a results folder; a copy of it in spare where the folder has no file locks."""
    try:
        return Store.make(out)
    except StorageError:
        for part in ("samples", "runs"):
            if (out / part).is_dir():
                shutil.copytree(out / part, spare / part)
        return Store.make(spare)


def stored(name: str, store: Store) -> Stored:
    """Summarise the store of one job."""
    rows = store.table().select(["node", "status"]).to_pylist()
    runs = files.listed(Path(store.root) / "runs", "*.json")
    blocks = resume.left(store, resume.read(store, runs[-1].stem)) if runs else ()
    n_failed = sum(row["status"] not in schema.FINE for row in rows)
    nodes = tuple(sorted({row["node"] for row in rows}))
    return Stored(name, nodes, len(rows), n_failed, sum(len(block.tasks) for block in blocks))


@contextmanager
def _scratch(to: Path, log: Log) -> Iterator[tuple[Path, dict[str, str]]]:
    """A store on the node's disk that begins with the shared one, and the variables of commands that write into it.

    It is removed afterwards, unless it could not be copied.
    """
    base = os.environ.get("SLURM_TMPDIR") or tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="cellbench-", dir=base))
    store = folder / "results"
    if to.is_dir():
        shutil.copytree(to, store)
    else:
        files.make_folder(to, "the job's store in the shared folder", "every node must mount it: name another --out")
    log(f"{socket.gethostname()}: measuring in {folder}, copied to {to}")
    is_copied = True
    try:
        yield store, environment(folder, os.environ, log)
    except StorageError:
        is_copied = False
        log(f"the samples are still in {store} on {socket.gethostname()}")
        raise
    finally:
        if is_copied:
            shutil.rmtree(folder, ignore_errors=True)


def environment(scratch: Path, environ: Mapping[str, str], log: Log) -> dict[str, str]:
    """The variables of a command in a job: temporary files and caches are on the node's disk.

    A home folder that takes no more files is replaced; engines that are installed there are still used.
    """
    made = {
        **environ,
        "TMPDIR": str(scratch),
        **{name: str(scratch / "cache") for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR")},
    }
    home = folders.home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(bytes(ROOM_BYTES))
            probe.flush()
    except OSError as error:
        log(f"{home} cannot be written ({files.reason(error)}): {scratch / 'home'} takes its place")
        made["CELLBENCH_HOME"] = str(scratch / "home")
        files.link(scratch / "home" / "engines", home / "engines")
    return made


def _supervised(words: Sequence[str], store: Path, to: Path, environ: Mapping[str, str], log: Log) -> int:
    """Run a command of this program while its store is copied; SIGTERM stops it and saves. Returns the exit code."""
    process = subprocess.Popen(_program(*words), env=environ)
    awaited = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    is_stopped, wait_s = False, FIRST_S
    try:
        while process.poll() is None:  # sleeps without a wake-up that could disturb the measurement
            got = signal.sigtimedwait(awaited, wait_s)
            is_first = got is not None and got.si_signo != signal.SIGCHLD and not is_stopped
            is_stopped |= is_first
            if is_first or (is_stopped and got is None):
                process.terminate()  # again after a while: it ignores the signal until it has started
            elif got is None:
                _copy_if_possible(store, to, log)
            wait_s = AGAIN_S if is_stopped else min(2 * wait_s, EVERY_S)
        copy(store, to)
        return STOPPED if is_stopped else process.returncode
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)


def _copy_if_possible(store: Path, to: Path, log: Log) -> None:
    """Copy; a shared folder that takes no files now may take the next copy."""
    try:
        copy(store, to)
    except StorageError as error:
        log(f"{error.what}: {error.where}")


def _ended(code: int, log: Log) -> int:
    """The exit code of a job. A stopped one waits for its end: SLURM requeues no job that ends in its grace time."""
    if code == STOPPED and (job := os.environ.get("SLURM_JOB_ID")):
        log(f"stopped, with its samples saved. A preempted job starts again; other ones with: scontrol requeue {job}")
        time.sleep(KILL_S)
    return code


def _program(*words: object) -> list[str]:
    return [sys.executable, "-m", "harness", *map(str, words)]
