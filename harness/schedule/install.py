"""Install a schedule as a job of this machine's service manager, start it, and remove it."""

from __future__ import annotations

import shutil
import sys
from datetime import datetime
from pathlib import Path

from harness import files
from harness.errors import CellbenchError
from harness.plan import config
from harness.schedule import definition, state
from harness.schedule.definition import Schedule
from harness.services import environment, manager
from harness.services.environment import Environment
from harness.services.manager import KINDS, Machine
from harness.services.times import Start
from harness.services.units import Job, Unit

STOP_S = 120  # a run that is stopped saves its samples and ends Ray
# Every step has a deadline of its own; the scheduler adds this on top, for confirming, alarms and reports.
EXTRA_H = 4.0
NOTHING = Environment({})


def choose(wanted: str, machine: Machine) -> str:
    """Choose a scheduler: the named one, or for `auto` the one that this machine has."""
    if wanted != "auto":
        if wanted not in KINDS:
            raise CellbenchError(f"there is no scheduler {wanted!r}", "--via", f"choose auto, {', '.join(KINDS)}")
        return wanted
    if machine.platform == "darwin":
        return "launchd"
    if machine.has_systemd:
        return "systemd" if machine.is_root else "systemd-user"
    if machine.has_crontab:
        return "cron"
    raise CellbenchError(
        "this machine has neither systemd nor cron", None,
        "install cron, or let your own scheduler call: cellbench schedule run-now NAME",
    )  # fmt: skip


def unit(schedule: Schedule, kind: str, machine: Machine, variables: Environment = NOTHING) -> Unit:
    """The schedule as a unit of this machine's scheduler; without variables only its name, to query or remove it."""
    job = Job(
        name=f"cellbench-{schedule.name}",
        description=f"Cellbench schedule {schedule.name}: profile {Path(schedule.profile).name}",
        # --if-due makes it harmless to be started twice, as after a boot.
        argv=(
            sys.executable, "-m", "harness", "schedule", "run-now", schedule.name, "--out", schedule.out, "--if-due",
        ),
        environment=variables,
        folder=schedule.folder,
        log=schedule.scheduler_log,
        stop_s=STOP_S,
        user=machine.user if kind in ("systemd", "launchd") else None,
        times=schedule.times,
        # A run, its confirmation, the cool-down before it, and the rest.
        limit_h=2 * schedule.timeout_h + schedule.cool_down_s / 3600 + EXTRA_H,
        # As Ctrl-C: finished samples are saved. Only to the command itself, which stops the current measurement; a
        # second Ctrl-C would cut that short.
        stop_signal="SIGINT",
    )  # fmt: skip
    return manager.unit(job, kind, machine, schedule.home / "start.sh")


def variables(schedule: Schedule, machine: Machine) -> Environment:
    """The variables that the scheduled command gets; of the token only the path, never a copy."""
    found = environment.job_environment(machine.environment, **({"RAY_AUTH_MODE": "token"} if schedule.address else {}))
    token = Path(found.variables.get("RAY_AUTH_TOKEN_PATH", machine.home / ".ray/auth_token"))
    if schedule.address and not token.is_file() and machine.environment.get("RAY_AUTH_TOKEN"):
        raise CellbenchError(
            "the fleet's token is in the variable RAY_AUTH_TOKEN only, which a schedule does not have", str(token),
            "write it into that file, readable for you alone (chmod 600)",
        )  # fmt: skip
    return found


def install(schedule: Schedule, kind: str, machine: Machine) -> Unit:
    """Write the schedule and start it; an invalid profile is reported first."""
    config.load(schedule.profile)
    made = unit(schedule, kind, machine, variables(schedule, machine))
    other = ", or use --via systemd-user" if kind == "systemd" else ""
    manager.check_rights(made, machine, f"put sudo -E before the command{other}")
    definition.write(schedule)
    state.installed(schedule, kind, made.job.environment)
    if machine.sudo_user:  # that user's nights must be able to replace the files that root wrote here
        for path in (schedule.file.parent, schedule.file, schedule.home, *schedule.home.iterdir()):
            shutil.chown(path, machine.sudo_user)
    manager.install(made, machine)
    return made


def remove(schedule: Schedule, kind: str, machine: Machine) -> None:
    """Stop a schedule and remove its files; results, reports and logs stay."""
    with files.storage_errors(schedule.file, "the schedule"):
        files.check_writable(schedule.file.parent)
        manager.remove(unit(schedule, kind, machine), machine)
        schedule.file.unlink(missing_ok=True)


def starts(schedule: Schedule, kind: str, now: datetime) -> list[str]:
    """The next three starts for people, in local time with its offset from UTC."""
    return [_text(start, schedule, kind) for start in schedule.times.following(now, 3)]


def hints(schedule: Schedule, kind: str, machine: Machine, now: datetime) -> list[str]:
    """Further requirements of a scheduler, which only a user should decide."""
    known = {
        "systemd-user": f"to run while no user is logged in: loginctl enable-linger {machine.user}",
        "launchd": "to wake a sleeping Mac: sudo pmset repeat wakeorpoweron MTWRFSU HH:MM:00, a few minutes before",
        "cron": "cron must be running: systemctl status cron, or service cron status",
    }
    found = [known[kind]] if kind in known else []
    if jump := next(schedule.times.missing(now), None):
        found.append(f"{_text(jump, schedule, kind)}; a time from 04:00 to 20:59 exists every day in every time zone")
    return found


def _text(start: Start, schedule: Schedule, kind: str) -> str:
    text = f"{start.at:%a %Y-%m-%d %H:%M %z}"
    if start.exists:
        return text
    what = "systemd leaves that day out" if kind.startswith("systemd") else "the start may come at once or not at all"
    return f"{text} (the clock jumps over {schedule.times}: {what})"
