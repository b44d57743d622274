"""A schedule in the words of systemd, launchd and cron; pure: what to write and what to call, not the writing."""

from __future__ import annotations

import plistlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.schedule.definition import DAYS, Schedule

STOP_S = 120  # a run that is told to stop saves what it has and takes Ray down
# Every step has a deadline of its own; this is what the scheduler adds on top, for confirming, alarms and reports.
EXTRA_H = 4.0


@dataclass(frozen=True)
class Unit:
    """What makes a scheduler run something: files to write, commands after writing and before removing them.

    crontab: lines to keep in the user's crontab instead of files.
    """

    kind: str
    files: Mapping[Path, str]
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]
    status: tuple[str, ...]
    crontab: tuple[str, ...] = ()


def label(schedule: Schedule) -> str:
    """The name that the machine's scheduler knows it by."""
    return f"cellbench-{schedule.name}"


def argv(schedule: Schedule, python: str) -> list[str]:
    """What a scheduler starts. --if-due makes it harmless to be started twice, as after a boot."""
    return [
        python, "-m", "harness", "schedule", "run-now", schedule.name, "--out", schedule.out, "--if-due",
    ]  # fmt: skip


def systemd(schedule: Schedule, python: str, environment: Mapping[str, str], folder: Path, user: str | None) -> Unit:
    """A oneshot service and its timer; user None is a unit of the user's own manager.

    Persistent=true catches up on a start that was missed while the machine was off.
    """
    name = label(schedule)
    network = ["Wants=network-online.target", "After=network-online.target"] if user else []
    service = [
        "[Unit]",
        f"Description=Cellbench schedule {schedule.name}: profile {_percent(Path(schedule.profile).name)}",
        *network,
        "",
        "[Service]",
        "Type=oneshot",
        *([f"User={user}"] if user else []),
        f"WorkingDirectory={_percent(schedule.folder)}",
        *(f"Environment={_quoted(f'{key}={value}')}" for key, value in sorted(environment.items())),
        f"ExecStart={' '.join(_quoted(word, is_command=True) for word in argv(schedule, python))}",
        f"TimeoutStartSec={_total_h(schedule):g}h",
        # As Ctrl-C: what was measured is saved and Ray is taken down. Only to the command itself, which tells the
        # measurement that goes on; a second Ctrl-C would cut that short.
        "KillSignal=SIGINT",
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_S}",
        "",
    ]
    timer = [
        "[Unit]",
        f"Description=Cellbench schedule {schedule.name}",
        "",
        "[Timer]",
        f"OnCalendar={on_calendar(schedule)}",
        "Persistent=true",
        "AccuracySec=1s",
        f"Unit={name}.service",
        "",
        "[Install]",
        "WantedBy=timers.target",
        "",
    ]
    control = ("systemctl",) if user else ("systemctl", "--user")
    return Unit(
        "systemd" if user else "systemd-user",
        {folder / f"{name}.service": "\n".join(service), folder / f"{name}.timer": "\n".join(timer)},
        start=((*control, "daemon-reload"), (*control, "enable", "--now", f"{name}.timer")),
        stop=((*control, "disable", "--now", f"{name}.timer"),),
        status=(*control, "list-timers", "--all", f"{name}.timer"),
    )


def on_calendar(schedule: Schedule) -> str:
    """When, as systemd writes it."""
    days = ",".join(day.capitalize() for day in schedule.days)
    return f"{days + ' ' if days else ''}*-*-* {schedule.at}:00"


def launchd(schedule: Schedule, python: str, environment: Mapping[str, str], folder: Path, user: str) -> Unit:
    """A daemon of macOS. Not an agent: since macOS 15 agents are kept off the local network, where the fleet is.

    Started at its time, at the next waking if the Mac slept, and at boot, where --if-due decides whether to go on.
    """
    name = f"org.{label(schedule).replace('-', '.', 1)}"
    hour, minute = map(int, schedule.at.split(":"))
    moment = {"Hour": hour, "Minute": minute}
    when = [{"Weekday": (DAYS.index(day) + 1) % 7, **moment} for day in schedule.days] or [moment]
    log = str(schedule.scheduler_log)
    plist = {
        "Label": name,
        # The Mac must not fall asleep while it measures.
        "ProgramArguments": ["/usr/bin/caffeinate", "-is", *argv(schedule, python)],
        "UserName": user,
        "WorkingDirectory": schedule.folder,
        "EnvironmentVariables": dict(sorted(environment.items())),
        "StartCalendarInterval": when,
        "RunAtLoad": True,
        # Without it launchd takes a background job's processor and disk away.
        "ProcessType": "Interactive",
        "ExitTimeOut": STOP_S,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    path = folder / f"{name}.plist"
    return Unit(
        "launchd",
        {path: plistlib.dumps(plist, sort_keys=False).decode()},
        start=(("launchctl", "bootstrap", "system", str(path)),),
        stop=(("launchctl", "bootout", f"system/{name}"),),
        status=("launchctl", "print", f"system/{name}"),
    )


def cron(schedule: Schedule, python: str, environment: Mapping[str, str]) -> Unit:
    """Lines for the user's crontab: one for the time, one that catches up after a boot.

    They call a script, since some crons take no line of more than 998 characters, which PATH alone can fill.
    """
    settings = [f"{key}={value}" for key, value in sorted(environment.items())]
    command = shlex.join(["/usr/bin/env", *settings, *argv(schedule, python)])
    log = shlex.quote(str(schedule.scheduler_log))
    script = schedule.home / "start.sh"
    text = f"cd {shlex.quote(schedule.folder)} && exec {command} >> {log} 2>&1\n"
    line = f"/bin/sh {shlex.quote(str(script))}".replace("%", r"\%")
    hour, minute = map(int, schedule.at.split(":"))
    days = ",".join(str((DAYS.index(day) + 1) % 7) for day in schedule.days) or "*"
    name = label(schedule)
    lines = (f"# {name}: begin", f"{minute} {hour} * * {days} {line}", f"@reboot sleep 120; {line}", f"# {name}: end")
    return Unit("cron", {script: text}, start=(), stop=(), status=("crontab", "-l"), crontab=lines)


def with_lines(crontab: str, unit: Unit) -> str:
    """A crontab with this unit's lines, in place of any that it had before."""
    return without_lines(crontab, unit) + "".join(f"{line}\n" for line in unit.crontab)


def without_lines(crontab: str, unit: Unit) -> str:
    """A crontab without this unit's lines; everybody else's stay as they are."""
    begin, end = unit.crontab[0], unit.crontab[-1]
    rest = re.sub(rf"^{re.escape(begin)}\n.*?^{re.escape(end)}\n?", "", crontab, flags=re.MULTILINE | re.DOTALL)
    return rest if not rest or rest.endswith("\n") else rest + "\n"


def _total_h(schedule: Schedule) -> float:
    """A run, its confirmation, the cool-down before it, and the rest."""
    return 2 * schedule.timeout_h + schedule.cool_down_s / 3600 + EXTRA_H


def _quoted(word: str, is_command: bool = False) -> str:
    """A word as systemd reads it: quoted, with its percent signs doubled; in commands dollars too."""
    text = _percent(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text.replace("$", "$$") if is_command else text}"'


def _percent(text: str) -> str:
    return text.replace("%", "%%")
