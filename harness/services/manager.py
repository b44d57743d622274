"""Give a job to this machine's service manager and remove it; the only module here that changes the machine."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import files
from harness.errors import CellbenchError
from harness.services import units
from harness.services.units import Job, Unit

KINDS = ("systemd", "systemd-user", "launchd", "cron")
ANSWER_S = 60.0


@dataclass(frozen=True)
class Machine:
    """The facts about a machine that decide how jobs are started on it; tests construct others.

    call: run a command with this text on its stdin; (exit status, its output), 127 where there is no such command.
    """

    platform: str
    is_root: bool
    user: str
    home: Path
    has_systemd: bool
    has_crontab: bool
    environment: Mapping[str, str]
    call: Callable[[tuple[str, ...], str], tuple[int, str]]
    root: Path = Path("/")
    sudo_user: str | None = None  # the caller of sudo


def this_machine() -> Machine:
    """The machine that this runs on."""
    is_root = os.geteuid() == 0
    sudo_user = os.environ.get("SUDO_USER") if is_root else None
    return Machine(
        sys.platform,
        is_root,
        sudo_user or getpass.getuser(),  # with sudo the work still is the user's: results, weights and token are
        Path.home(),
        Path("/run/systemd/system").is_dir(),
        shutil.which("crontab") is not None,
        dict(os.environ),
        _call,
        sudo_user=sudo_user,
    )


def unit(job: Job, kind: str, machine: Machine, script: Path | None = None) -> Unit:
    """A job as a unit of this machine's service manager; script: the file that cron calls."""
    if kind == "systemd":
        return units.systemd(job, machine.root / "etc/systemd/system")
    if kind == "systemd-user":
        settings = Path(machine.environment.get("XDG_CONFIG_HOME") or machine.home / ".config")
        return units.systemd(job, settings / "systemd/user")
    if kind == "launchd":
        return units.launchd(job, machine.root / "Library/LaunchDaemons")
    assert script, "cron calls a script"
    return units.cron(job, script)


def check_rights(unit: Unit, machine: Machine, fix: str) -> None:
    """Reject a unit of the whole machine without the rights of root; fix: of that error."""
    if unit.needs_root and not machine.is_root:
        what = f"a {unit.kind} unit of the whole machine needs the rights of root"
        raise CellbenchError(what, str(unit.path), fix)


def install(unit: Unit, machine: Machine) -> None:
    """Write a unit and start it; where that fails, its files are as they were."""
    before = {path: path.read_text() if path.is_file() else None for path in unit.files}
    try:
        for path, text in unit.files.items():
            # Units hold variables; launchd rejects a daemon that others may write.
            files.write(path, text, mode=0o644, make_folder=True, what="the unit")
        if unit.crontab:
            _crontab(machine, lambda now: units.with_lines(now, unit))
        for command in unit.start:
            _must(machine, command)
    except CellbenchError:
        for path, text in before.items():
            with suppress(CellbenchError, OSError):
                path.unlink(missing_ok=True) if text is None else files.write(path, text, mode=0o644)
        _try(machine, unit.forget)
        raise


def remove(unit: Unit, machine: Machine) -> bool:
    """Stop a unit and remove it; False if there was none."""
    is_there = any(path.exists() for path in unit.files)
    if is_there:
        _try(machine, unit.stop)  # the files are removed also if it does not run
    for path in unit.files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CellbenchError(f"the unit cannot be removed: {error.strerror}", str(path), "use sudo") from error
    if unit.crontab:
        _crontab(machine, lambda now: units.without_lines(now, unit))
    if is_there:
        _try(machine, unit.forget)
    return is_there


def _crontab(machine: Machine, change: Callable[[str], str]) -> None:
    status, now = machine.call(("crontab", "-l"), "")
    if status == 127:
        raise CellbenchError("there is no command crontab", None, "install cron")
    _must(machine, ("crontab", "-"), change(now if status == 0 else ""))  # a user without a crontab has status 1


def _try(machine: Machine, commands: Sequence[tuple[str, ...]]) -> None:
    for command in commands:
        machine.call(command, "")


def _must(machine: Machine, command: tuple[str, ...], text: str = "") -> None:
    status, answer = machine.call(command, text)
    if status == 127:
        raise CellbenchError(
            f"there is no command {command[0]}", " ".join(command),
            "this machine has no such service manager: start the command under the one that it has",
        )  # fmt: skip
    if status:
        reason = answer.strip() or f"status {status}"
        raise CellbenchError(f"{command[0]} failed: {reason}", " ".join(command), "correct that, then install again")


def _call(command: tuple[str, ...], text: str) -> tuple[int, str]:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=ANSWER_S)
    except OSError as error:
        return 127, f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]} did not answer in {ANSWER_S:g} s"
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr or done.stdout
