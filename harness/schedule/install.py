"""Give a schedule to this machine's scheduler, show it, take it away; the only place here that changes the machine."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import files
from harness.errors import CellbenchError
from harness.plan import config
from harness.schedule import definition, state, units
from harness.schedule.definition import Schedule
from harness.schedule.units import Unit

KINDS = ("systemd", "systemd-user", "launchd", "cron")
# What the scheduled command needs of the environment in which it was set up. The token itself is never copied, only
# where it is.
KEEP = (
    "PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "RAY_AUTH_TOKEN_PATH",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "CELLPOSE_LOCAL_MODELS_PATH",
    "CELLBENCH_WEIGHTS_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "XDG_CONFIG_HOME",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What of a machine decides how things are scheduled on it; tests make others up.

    call: run a command with this text on its stdin; (exit status, what it said), 127 where there is no such command.
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
    sudo_user: str | None = None  # who asked root for this


def this_machine() -> Machine:
    """The machine that this runs on."""
    path = os.environ.get("PATH", "").split(os.pathsep)
    is_root = os.geteuid() == 0
    return Machine(
        sys.platform,
        is_root,
        # With sudo the benchmark still is the user's: results, weights and token are.
        (os.environ.get("SUDO_USER") if is_root else None) or getpass.getuser(),
        Path.home(),
        Path("/run/systemd/system").is_dir(),
        any((Path(folder) / "crontab").exists() for folder in path),
        dict(os.environ),
        _call,
        sudo_user=os.environ.get("SUDO_USER") if is_root else None,
    )


def choose(asked: str, machine: Machine) -> str:
    """Which scheduler: the one asked for, or for `auto` what this machine has."""
    if asked != "auto":
        if asked not in KINDS:
            raise CellbenchError(f"there is no scheduler {asked!r}", "--via", f"choose auto, {', '.join(KINDS)}")
        return asked
    if machine.platform == "darwin":
        return "launchd"
    if machine.has_systemd:
        return "systemd" if machine.is_root else "systemd-user"
    if machine.has_crontab:
        return "cron"
    raise CellbenchError(
        "this machine has neither systemd nor cron", None,
        "install cron, or let what you have call: cellbench schedule run-now NAME",
    )  # fmt: skip


def unit(schedule: Schedule, kind: str, machine: Machine) -> Unit:
    """The schedule as this machine's scheduler wants it."""
    kept = environment(schedule, machine)
    python = sys.executable
    if kind == "systemd":
        return units.systemd(schedule, python, kept, machine.root / "etc/systemd/system", machine.user)
    if kind == "systemd-user":
        config_home = Path(machine.environment.get("XDG_CONFIG_HOME") or machine.home / ".config")
        return units.systemd(schedule, python, kept, config_home / "systemd/user", None)
    if kind == "launchd":
        return units.launchd(schedule, python, kept, machine.root / "Library/LaunchDaemons", machine.user)
    return units.cron(schedule, python, kept)


def environment(schedule: Schedule, machine: Machine) -> dict[str, str]:
    """The variables that the scheduled command gets: a scheduler gives it next to none."""
    kept = {name: machine.environment[name] for name in KEEP if machine.environment.get(name)}
    if schedule.address:
        kept["RAY_AUTH_MODE"] = "token"
        token = Path(kept.get("RAY_AUTH_TOKEN_PATH", machine.home / ".ray/auth_token"))
        if not token.is_file() and machine.environment.get("RAY_AUTH_TOKEN"):
            raise CellbenchError(
                "the fleet's token is in the variable RAY_AUTH_TOKEN only, which a schedule does not have", str(token),
                "write it into that file, readable for you alone (chmod 600)",
            )  # fmt: skip
    return kept


def install(schedule: Schedule, kind: str, machine: Machine) -> Unit:
    """Keep the schedule and start it; a profile that is not valid is said first."""
    config.load(schedule.profile)
    made = unit(schedule, kind, machine)
    if kind in ("systemd", "launchd") and not machine.is_root:
        raise CellbenchError(
            f"{kind} units of the whole machine take root", None,
            "put sudo -E before the command" + ("" if kind == "launchd" else ", or say --via systemd-user"),
        )  # fmt: skip
    definition.write(schedule)
    state.installed(schedule, kind)
    if machine.sudo_user:  # what root wrote here, the nights of that user must be able to write again
        for path in (schedule.file.parent, schedule.file, schedule.home, *schedule.home.iterdir()):
            shutil.chown(path, machine.sudo_user)
    for path, text in made.files.items():
        # Units hold variables; launchd refuses a daemon that others may write.
        files.write(path, text, mode=0o644, make_folder=True)
    if made.crontab:
        _crontab(machine, lambda now: units.with_lines(now, made))
    for command in made.start:
        _must(machine, command)
    return made


def remove(schedule: Schedule, kind: str, machine: Machine) -> Unit:
    """Stop a schedule and forget it; results, reports and logs stay."""
    made = unit(schedule, kind, machine)
    for command in made.stop:
        # It may be stopped already, as after an installation that failed halfway.
        machine.call(command, "")
    for path in made.files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CellbenchError(
                f"the unit cannot be removed: {error.strerror}", str(path), "put sudo before"
            ) from error
    if made.crontab:
        _crontab(machine, lambda now: units.without_lines(now, made))
    schedule.file.unlink(missing_ok=True)
    return made


def hints(kind: str, machine: Machine) -> list[str]:
    """What a scheduler needs besides, that only a person should decide."""
    if kind == "systemd-user":
        return [f"to run while nobody is logged in: loginctl enable-linger {machine.user}"]
    if kind == "launchd":
        return [
            "to wake a sleeping Mac in time: sudo pmset repeat wakeorpoweron MTWRFSU HH:MM:00, a few minutes before"
        ]
    return ["cron must be running: systemctl status cron, or service cron status"] if kind == "cron" else []


def _crontab(machine: Machine, change: Callable[[str], str]) -> None:
    status, now = machine.call(("crontab", "-l"), "")
    if status == 127:
        raise CellbenchError("there is no command crontab", None, "install cron")
    # A user without a crontab is told so with status 1.
    text = change(now if status == 0 else "")
    _must(machine, ("crontab", "-"), text)


def _must(machine: Machine, command: tuple[str, ...], text: str = "") -> None:
    status, said = machine.call(command, text)
    if status:
        raise CellbenchError(f"the scheduler refused: {said.strip() or f'status {status}'}", " ".join(command))


def _call(command: tuple[str, ...], text: str) -> tuple[int, str]:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        return 127, f"there is no command {command[0]}"
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]} did not answer in 60 s"
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr or done.stdout
