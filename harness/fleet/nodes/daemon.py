"""Ray's processes of this machine's nodes: start them, wait for them, find them, and stop only these.

`ray stop` would end every process of Ray that the user has. Here each node has a state file that names one process,
`ray start --block`, by its id and start time; everything else of that node is its offspring.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from harness import files
from harness.errors import CellbenchError, FleetUnreachableError
from harness.fleet import network
from harness.fleet.nodes import head
from harness.fleet.nodes.command import Command, Setup
from harness.fleet.tags import Tags

UP_S = 90.0  # Ray's own start gives up after 30 s, and a busy machine takes long to import it
STOP_S = 40.0  # Ray drains for up to 30 s; systemd and launchd wait for 45 s
LAST_S = 5.0  # offspring that outlived the parent
N_FILES = 65_536  # Ray keeps several connections to each process of each node; macOS allows 256 by default


@dataclass(frozen=True)
class Running:
    """A node that was started here, from its state file. started_at: the process's own, in s since 1970."""

    pid: int
    started_at: float
    name: str
    ip: str
    head: str
    is_head: bool
    port_base: int
    temp_dir: str
    counts: Mapping[str, int]
    log: str | None = None  # None in the foreground
    service: str | None = None  # the service that keeps it up

    def process(self) -> psutil.Process | None:
        """The process, unless it is gone; another one with the same id is not it."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_at) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


Started = tuple["subprocess.Popen[bytes]", Running]


def running(folder: Path) -> list[Running]:
    """The nodes of this user that run on this machine; the state files of those that are gone are removed."""
    alive = []
    for path in files.listed(folder / "nodes", "*.json"):
        node = _read(path)
        if node is not None and node.process() is not None:
            alive.append(node)
        else:
            path.unlink(missing_ok=True)
    return alive


def begin(setup: Setup, tags: Tags, command: Command, folder: Path, foreground: bool = False) -> Started:
    """Start Ray and write its state file; in the foreground its output goes to this terminal, else into a log."""
    log = None if foreground else folder / "logs" / f"node-{setup.port_base}.log"
    _raise_file_limit()
    try:
        (folder / "nodes").mkdir(parents=True, exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
        output = None if log is None else log.open("wb")
        process = subprocess.Popen(
            command.argv, env=command.environment(os.environ), cwd=folder, stdin=subprocess.DEVNULL,
            stdout=output, stderr=None if output is None else subprocess.STDOUT, start_new_session=not foreground,
        )  # fmt: skip
    except OSError as error:
        raise CellbenchError(
            "Ray cannot be started", f"{error.filename}: {error.strerror}", "check that place"
        ) from error
    if output is not None:
        output.close()
    _stay_awake(process.pid)
    node = Running(
        process.pid, psutil.Process(process.pid).create_time(), setup.name, setup.ip, setup.head, setup.is_head,
        setup.port_base, setup.temp_dir, dict(tags.counts), str(log) if log else None,
        os.environ.get("CELLBENCH_SERVICE"),
    )  # fmt: skip
    _write(_state_file(folder, setup.port_base), node)
    return process, node


def wait_until_up(
    process: subprocess.Popen[bytes],
    setup: Setup,
    log: Path | None,
    look: Callable[[str], head.Head] = head.look,
    sleep: Callable[[float], None] = time.sleep,
) -> head.Member:
    """Wait until the head lists this node as alive; FleetUnreachableError if Ray ends before, or after UP_S."""
    end_s = time.monotonic() + UP_S
    while time.monotonic() < end_s:
        if process.poll() is not None:
            raise _failed(f"Ray ended while it started, with exit code {process.returncode}", log)
        if _answers(setup):
            with suppress(FleetUnreachableError):  # a head's own control service may be a moment behind
                if member := member_of(look(setup.head), setup):
                    return member
        sleep(0.5)
    raise _failed(f"Ray did not start within {UP_S:g} s", log)


def member_of(fleet: head.Head, setup: Setup) -> head.Member | None:
    """This node in its head's list."""
    mine = (m for m in fleet.members if m.is_up and (m.name, m.port) == (setup.name, setup.node_port))
    return next(mine, None)


def stop(node: Running, folder: Path, patience_s: float = STOP_S) -> int:
    """End a node's processes, by force where necessary, and return their number."""
    process = node.process()
    if process is None:
        _forget(node, folder)
        return 0
    family = [process]
    with suppress(psutil.NoSuchProcess):
        family += process.children(recursive=True)
        process.terminate()
    _wait([process], patience_s)
    stubborn = _wait(family, LAST_S if not _is_alive(process) else 0)
    for each in stubborn:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    if left := _wait(stubborn, LAST_S):
        raise CellbenchError(
            "some of Ray's processes could not be ended",
            ", ".join(str(each.pid) for each in left),
            "restart the machine",
        )
    _forget(node, folder)
    return len(family)


def _forget(node: Running, folder: Path) -> None:
    """Remove the files of the node; Ray leaves the file by which `address="auto"` finds it, which then misleads."""
    _state_file(folder, node.port_base).unlink(missing_ok=True)
    known = Path(node.temp_dir) / "ray_current_cluster"
    with suppress(OSError):
        if known.read_text().strip() == node.head:
            known.unlink()


def _wait(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait for processes to end and return those that have not; a zombie without a parent has ended."""
    end_s = time.monotonic() + timeout_s
    while (alive := [each for each in processes if _is_alive(each)]) and time.monotonic() < end_s:
        time.sleep(0.1)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _answers(setup: Setup) -> bool:
    try:
        network.connect(setup.ip, setup.node_port)
    except OSError:
        return False
    return True


def _failed(what: str, log: Path | None) -> FleetUnreachableError:
    if log is None:
        return FleetUnreachableError(what, "this machine", "see what it printed above")
    with suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        what = "\n         ".join([f"{what}; its last output:", *lines[-8:]])
    return FleetUnreachableError(
        what, f"this machine; all of it is in {log}", "correct the problem in the log, and start again"
    )


def _stay_awake(pid: int) -> None:
    """Keep a Mac from falling asleep as long as a process runs; it would vanish from the fleet (man caffeinate)."""
    if sys.platform == "darwin":
        subprocess.Popen(["/usr/bin/caffeinate", "-is", "-w", str(pid)], stdin=subprocess.DEVNULL)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = N_FILES if hard == resource.RLIM_INFINITY else min(N_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):  # macOS has a second limit, which it does not report here
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _state_file(folder: Path, port_base: int) -> Path:
    return folder / "nodes" / f"{port_base}.json"


def _write(path: Path, node: Running) -> None:
    files.write(path, json.dumps(asdict(node), indent=2), what="the state of the node")


def _read(path: Path) -> Running | None:
    """The content of a state file; None if it is not one of this program's."""
    try:
        return Running(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
