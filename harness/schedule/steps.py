"""The steps of a night, each a command with a deadline and a log; no step leaves a process running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import files, locks
from harness.errors import BusyError
from harness.schedule.definition import Schedule

STOP_S = 90.0  # for a command that is stopped: it saves its samples and ends Ray
SHORT_S = 1800.0  # for a step that measures nothing
TIMED_OUT = 124
SCHEDULER_LOG_BYTES = 100_000

COMMAND = (sys.executable, "-m", "harness")


@dataclass(frozen=True)
class Done:
    """The end of a step: its exit status (124 after a timeout) and its stdout."""

    status: int
    stdout: str

    def json(self) -> Any:
        """Its output as JSON; None where it is not JSON."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            return None


class MeasuringError(BusyError):
    """Another command is measuring into these results."""

    exit_code = 3


def run_argv(schedule: Schedule) -> list[str]:
    """The command that measures."""
    address = ["--address", schedule.address] if schedule.address else []
    return [
        *COMMAND, "run", "--profile", schedule.profile, "--out", schedule.out, *address, *schedule.run_flags, "--quiet",
    ]  # fmt: skip


def confirm_argv(schedule: Schedule, selectors: list[str]) -> list[str]:
    """The command that measures some cases again, each named as node/device/crop."""
    return [*run_argv(schedule), "--only", ",".join(selectors)]


def call(argv: list[str], timeout_s: float, log: Path) -> Done:
    """Run a command, its stderr into the log; at the time limit it is stopped as by Ctrl-C, then killed."""
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(argv)}\n")
        file.flush()
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True)
        try:
            stdout, _ = process.communicate(timeout=timeout_s)
            status = process.returncode
        except subprocess.TimeoutExpired:
            stdout, status = _stop(process), TIMED_OUT
        except BaseException:
            _stop(process)
            raise
        file.write(stdout + (f"stopped after {timeout_s:g} s\n" if status == TIMED_OUT else f"status {status}\n"))
    return Done(status, stdout)


def _stop(process: subprocess.Popen[str]) -> str:
    """Stop a command and everything it started; returns its output."""
    stdout = ""
    for how, wait_s in ((signal.SIGINT, STOP_S), (signal.SIGKILL, STOP_S)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            stdout, _ = process.communicate(timeout=wait_s)
            break
    return stdout


@contextmanager
def alone(schedule: Schedule) -> Iterator[None]:
    """Hold the lock of these results' schedules; MeasuringError during another night, or any run into them."""
    files.make_folder(schedule.file.parent, "the schedule's folder")
    with ExitStack() as held:
        try:
            held.enter_context(locks.locked(schedule.file.with_name(".lock"), "another scheduled run is measuring"))
        except BusyError as error:
            raise MeasuringError(error.what, schedule.out, error.fix) from error
        if running := running_runs(Path(schedule.out)):
            raise MeasuringError(f"run {running[0]} is measuring", schedule.out, "wait for it to end")
        yield


def running_runs(out: Path) -> list[str]:
    """Runs that are being written now: each holds a lock on its journal."""
    found = []
    for journal in files.listed(out / "journal", "*.arrows"):
        with suppress(FileNotFoundError), journal.open("rb") as file:
            try:
                locks.lock(file, journal, "its run is measuring", shared=True)
            except BusyError:
                found.append(journal.stem)
    return found


@contextmanager
def log_of(schedule: Schedule, now: datetime) -> Iterator[Path]:
    """This night's log; the oldest ones beyond `keep_logs` are removed, and the scheduler's own is emptied."""
    folder = files.make_folder(schedule.home / "logs", "the log")
    log = folder / f"{now.strftime('%Y%m%dT%H%M%S')}.log"
    with files.storage_errors(log, "the log"):
        log.touch()
    yield log
    for old in files.listed(folder, "*.log")[: -schedule.keep_logs]:
        old.unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # only cron and launchd write it
        if schedule.scheduler_log.stat().st_size > SCHEDULER_LOG_BYTES:
            os.truncate(schedule.scheduler_log, 0)  # not removed: the scheduler appends to it just now
