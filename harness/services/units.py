"""A job in the formats of systemd, launchd and cron; pure: texts and commands, nothing is written.

Sources: systemd.service(5), systemd.unit(5), systemd.kill(5), systemd.time(7); launchd.plist(5), launchctl(1), Apple's
TN3179; crontab(5).
"""

from __future__ import annotations

import plistlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.services.environment import Environment
from harness.services.times import DAYS, Times

PAUSE_S = 10  # before a job that is kept running is started again
N_FILES = 65_536  # Ray keeps several connections to each process of each node
Commands = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Job:
    """A command that a service manager runs.

    times: when it starts; None: at boot, and again whenever it ends. limit_h: of one start. user: of the process; None:
    the owner of the user's own service manager. stop_signal, stop_s: how it is stopped, and the time for it in s. log:
    the file for its output where the manager keeps no journal.
    """

    name: str
    description: str
    argv: Sequence[str]
    environment: Environment
    folder: str
    log: Path
    stop_s: int
    user: str | None
    times: Times | None = None
    limit_h: float = 0.0
    stop_signal: str = "SIGTERM"


@dataclass(frozen=True)
class Unit:
    """A job for a service manager: files to write, commands after writing and around removing them.

    crontab: lines for the user's crontab. begin, end: commands for users that start it, and stop it until the
    next boot.
    """

    job: Job
    kind: str
    files: Mapping[Path, str]
    start: Commands
    stop: Commands
    forget: Commands
    status: tuple[str, ...]
    crontab: tuple[str, ...] = ()
    begin: str = ""
    end: str = ""

    @property
    def path(self) -> Path:
        """Its main file."""
        return next(iter(self.files))

    @property
    def needs_root(self) -> bool:
        """Whether it belongs to the whole machine."""
        return self.kind in ("systemd", "launchd")


def systemd(job: Job, folder: Path) -> Unit:
    """A service, and its timer where it has times; Persistent=true catches up on a start while the machine was off."""
    is_of_system, times = job.user is not None, job.times
    service = {
        "Unit": [
            f"Description={_percent(job.description)}",
            # A boot that is faster than the driver would find no GPU.
            *["Wants=network-online.target", "After=network-online.target nvidia-persistenced.service"] * is_of_system,
            # A fleet's head may be away for days: never give up.
            *["StartLimitIntervalSec=0"] * (times is None),
        ],
        "Service": [
            *(["Type=oneshot", f"TimeoutStartSec={job.limit_h:g}h"] if times else ["Type=simple", "Restart=always"]),
            *[f"RestartSec={PAUSE_S}"] * (times is None),
            *[f"User={job.user}"] * is_of_system,
            f"WorkingDirectory={_percent(job.folder)}",
            *(f"Environment={_quoted(f'{key}={value}')}" for key, value in sorted(job.environment.variables.items())),
            f"ExecStart={' '.join(_quoted(word, is_command=True) for word in job.argv)}",
            # Only the command itself is stopped, and ends its own processes in order.
            f"KillSignal={job.stop_signal}",
            "KillMode=mixed",
            f"TimeoutStopSec={job.stop_s}",
            f"LimitNOFILE={N_FILES}",
        ],
    }  # fmt: skip
    started, files = f"{job.name}.service", {}
    if times is None:
        service["Install"] = [f"WantedBy={'multi-user' if is_of_system else 'default'}.target"]
    else:
        started = f"{job.name}.timer"
        when = [f"OnCalendar={on_calendar(times)}", "Persistent=true", "AccuracySec=1s", f"Unit={job.name}.service"]
        timer = {"Unit": service["Unit"][:1], "Timer": when, "Install": ["WantedBy=timers.target"]}
        files = {folder / started: _sections(timer)}
    control = ("systemctl",) if is_of_system else ("systemctl", "--user")
    typed = ("sudo " if is_of_system else "") + " ".join(control)
    return Unit(
        job,
        "systemd" if is_of_system else "systemd-user",
        {folder / f"{job.name}.service": _sections(service), **files},
        start=((*control, "daemon-reload"), (*control, "enable", "--now", started)),
        stop=((*control, "disable", "--now", started),),
        forget=((*control, "daemon-reload"),),
        status=(*control, "list-timers", "--all", started) if times else (*control, "status", started),
        begin=f"{typed} start {started}",
        end=f"{typed} stop {started}",
    )


def on_calendar(times: Times) -> str:
    """The times in systemd's format."""
    days = ",".join(day.capitalize() for day in times.days)
    return f"{days + ' ' if days else ''}*-*-* {times}:00"


def launchd(job: Job, folder: Path) -> Unit:
    """A daemon of macOS. Not an agent: since macOS 15 agents are kept off the local network, where a fleet is.

    With times it is started then, at the next waking if the Mac slept, and at boot, where the command itself decides
    whether a start was missed.
    """
    name = f"org.{job.name.replace('-', '.', 1)}"
    path, log = folder / f"{name}.plist", str(job.log)
    content = {
        "Label": name,
        "UserName": job.user,
        "ProgramArguments": list(job.argv),
        "WorkingDirectory": job.folder,
        "EnvironmentVariables": dict(sorted(job.environment.variables.items())),
        "RunAtLoad": True,
        # Without it launchd takes a background job's processor and disk away, which would be measured.
        "ProcessType": "Interactive",
        "ExitTimeOut": job.stop_s,
        "SoftResourceLimits": {"NumberOfFiles": N_FILES},
        "HardResourceLimits": {"NumberOfFiles": N_FILES},
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    if job.times is None:
        content |= {"KeepAlive": True, "ThrottleInterval": PAUSE_S}
    else:
        moment = {"Hour": job.times.hour, "Minute": job.times.minute}
        content["StartCalendarInterval"] = [{"Weekday": n, **moment} for n in _weekdays(job.times)] or [moment]
        # The Mac must not fall asleep while it measures.
        content["ProgramArguments"] = ["/usr/bin/caffeinate", "-is", *job.argv]
    return Unit(
        job,
        "launchd",
        {path: plistlib.dumps(content, sort_keys=False).decode()},
        start=(("launchctl", "bootstrap", "system", str(path)),),
        stop=(("launchctl", "bootout", f"system/{name}"),),
        forget=(),
        status=("launchctl", "print", f"system/{name}"),
        begin=f"sudo launchctl bootstrap system {path}",
        end=f"sudo launchctl bootout system/{name}",
    )


def cron(job: Job, script: Path) -> Unit:
    """Lines for the user's crontab: one for the time, one that catches up after a boot.

    They call a script, since some crons take no line of more than 998 characters, which PATH alone can fill.
    """
    assert job.times, "cron keeps nothing running"
    settings = [f"{key}={value}" for key, value in sorted(job.environment.variables.items())]
    command = shlex.join(["/usr/bin/env", *settings, *job.argv])
    text = f"cd {shlex.quote(job.folder)} && exec {command} >> {shlex.quote(str(job.log))} 2>&1\n"
    line = f"/bin/sh {shlex.quote(str(script))}".replace("%", r"\%")
    days = ",".join(map(str, _weekdays(job.times))) or "*"
    when = f"{job.times.minute} {job.times.hour} * * {days}"
    lines = (f"# {job.name}: begin", f"{when} {line}", f"@reboot sleep 120; {line}", f"# {job.name}: end")
    return Unit(job, "cron", {script: text}, start=(), stop=(), forget=(), status=("crontab", "-l"), crontab=lines)


def with_lines(crontab: str, unit: Unit) -> str:
    """A crontab with this unit's lines, in place of any that it had before."""
    return without_lines(crontab, unit) + "".join(f"{line}\n" for line in unit.crontab)


def without_lines(crontab: str, unit: Unit) -> str:
    """A crontab without this unit's lines; all other lines stay unchanged."""
    begin, end = unit.crontab[0], unit.crontab[-1]
    rest = re.sub(rf"^{re.escape(begin)}\n.*?^{re.escape(end)}\n?", "", crontab, flags=re.MULTILINE | re.DOTALL)
    return rest if not rest or rest.endswith("\n") else rest + "\n"


def _weekdays(times: Times) -> list[int]:
    """The days as launchd and cron count them, from Sunday."""
    return [(DAYS.index(day) + 1) % 7 for day in times.days]


def _sections(sections: Mapping[str, Sequence[str]]) -> str:
    return "\n".join("\n".join([f"[{title}]", *lines, ""]) for title, lines in sections.items())


def _quoted(word: str, is_command: bool = False) -> str:
    """A word quoted for systemd, with its percent signs doubled; in commands dollars too."""
    text = _percent(word).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text.replace("$", "$$") if is_command else text}"'


def _percent(text: str) -> str:
    return text.replace("%", "%%")
