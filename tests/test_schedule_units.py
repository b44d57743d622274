"""Units as the schedulers themselves read them, where they are there to be asked."""

import os
import plistlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness import files
from harness.errors import CellbenchError
from harness.schedule import definition, install, state, units
from harness.schedule.install import Machine
from tests.test_schedule_definition import make

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "AWKWARD": 'a "b" 50%$ \\ c'}
PYTHON = "/opt/cell bench/bin/python"


def machine(tmp_path: Path, calls: list[Any] | None = None, crontab: str | None = None, **changes: Any) -> Machine:
    table = {"text": crontab}

    def call(command: tuple[str, ...], text: str) -> tuple[int, str]:
        if calls is not None:
            calls.append((command, text))
        if command == ("crontab", "-l"):
            return (1, "no crontab for me") if table["text"] is None else (0, table["text"])
        if command == ("crontab", "-"):
            table["text"] = text
        return 0, ""

    known = {
        "platform": "linux", "is_root": True, "user": "me", "home": tmp_path / "home", "has_systemd": True,
        "has_crontab": True, "environment": {"PATH": "/bin", "SECRET": "x"}, "call": call, "root": tmp_path / "root",
    }  # fmt: skip
    return Machine(**known | changes)


def test_the_scheduler_is_the_one_that_the_machine_has(tmp_path: Path) -> None:
    for changes, kind in (
        ({}, "systemd"),
        ({"is_root": False}, "systemd-user"),
        ({"has_systemd": False}, "cron"),
        ({"platform": "darwin", "has_systemd": False}, "launchd"),
    ):
        assert install.choose("auto", machine(tmp_path, **changes)) == kind
    with pytest.raises(CellbenchError, match="neither systemd nor cron"):
        install.choose("auto", machine(tmp_path, has_systemd=False, has_crontab=False))
    with pytest.raises(CellbenchError, match="no scheduler 'at'"):
        install.choose("at", machine(tmp_path))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("user", ["root", None])
def test_systemd_accepts_the_units(tmp_path: Path, user: str | None) -> None:
    python = tmp_path / "cell bench%" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    schedule = make(tmp_path, days=("mon", "sun"), profile="/home/me/my%profile.toml")
    made = units.systemd(schedule, str(python), ENVIRONMENT, tmp_path / "units", user)
    for path, text in made.files.items():
        files.write(path, text, make_folder=True)
    for path in made.files:
        scope = ["--system"] if user else ["--user"]
        runtime = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(
            ["systemd-analyze", scope[0], "verify", "--man=no", path],
            env=runtime, capture_output=True, text=True, check=False,
        )  # fmt: skip
        complaints = [line for line in done.stderr.splitlines() if "cellbench" in line]
        assert (done.returncode, complaints) == (0, []), done.stderr
    when = subprocess.run(
        ["systemd-analyze", "calendar", units.on_calendar(schedule)], capture_output=True, text=True, check=True
    ).stdout
    assert "Mon,Sun *-*-* 02:30:00" in when


def test_the_service_stops_like_ctrl_c_and_catches_up(tmp_path: Path) -> None:
    made = units.systemd(make(tmp_path), PYTHON, ENVIRONMENT, tmp_path, "me")
    service, timer = made.files.values()
    for line in (
        "Type=oneshot",
        "User=me",
        "KillSignal=SIGINT",
        "KillMode=mixed",
        'Environment="AWKWARD=a \\"b\\" 50%%$ \\\\ c"',
    ):
        assert line in service.splitlines()
    assert re.search(r"^TimeoutStartSec=\d+", service, re.MULTILINE)
    assert "Persistent=true" in timer.splitlines()
    assert made.start[-1] == ("systemctl", "enable", "--now", "cellbench-nightly.timer")


def test_launchd_gets_a_daemon(tmp_path: Path) -> None:
    made = units.launchd(make(tmp_path, days=("sun", "mon")), PYTHON, ENVIRONMENT, tmp_path, "me")
    [(path, text)] = made.files.items()
    plist = plistlib.loads(text.encode())
    assert path.name == "org.cellbench.nightly.plist"
    assert plist["ProgramArguments"][:3] == ["/usr/bin/caffeinate", "-is", PYTHON]
    assert plist["ProgramArguments"][-1] == "--if-due"
    assert plist["StartCalendarInterval"] == [
        {"Weekday": 0, "Hour": 2, "Minute": 30}, {"Weekday": 1, "Hour": 2, "Minute": 30},
    ]  # fmt: skip
    assert (plist["UserName"], plist["ProcessType"], plist["RunAtLoad"]) == ("me", "Interactive", True)
    assert plist["EnvironmentVariables"] == ENVIRONMENT
    if lint := shutil.which("plutil") or shutil.which("xmllint"):
        files.write(path, text, make_folder=True)
        subprocess.run([lint, *(["-lint"] if "plutil" in lint else ["--noout"]), path], check=True)


def test_the_cron_lines_are_what_cron_reads(tmp_path: Path) -> None:
    made = units.cron(make(tmp_path / "50% of it", days=("mon", "sun")), PYTHON, ENVIRONMENT)
    _, daily, boot, _ = made.crontab
    minute, hour, day, month, weekdays, command = daily.split(maxsplit=5)
    assert (minute, hour, day, month, weekdays) == ("30", "2", "*", "*", "1,0")
    assert boot == f"@reboot sleep 120; {command}"
    assert not re.search(r"(?<!\\)%", command)  # a bare percent sign is a line break to cron
    [(script, text)] = made.files.items()
    assert shlex.split(command.replace(r"\%", "%")) == ["/bin/sh", str(script)]
    words = shlex.split(text)
    assert words[:6] == ["cd", "/tmp", "&&", "exec", "/usr/bin/env", "AWKWARD=" + ENVIRONMENT["AWKWARD"]]
    assert words[7:10] == [PYTHON, "-m", "harness"]


def test_a_crontab_keeps_everybody_elses_lines(tmp_path: Path) -> None:
    made, other = (units.cron(make(tmp_path, name=name), PYTHON, {}) for name in ("nightly", "nightly-2"))
    before = "# mine\n0 5 * * * backup"
    once = units.with_lines(before, made)
    assert units.with_lines(once, made) == once
    both = units.with_lines(once, other)
    assert units.without_lines(units.without_lines(both, made), other) == before + "\n"
    assert units.without_lines("", made) == ""


@pytest.mark.parametrize("kind", ["systemd", "systemd-user", "launchd", "cron"])
def test_install_and_remove(tmp_path: Path, kind: str) -> None:
    calls: list[Any] = []
    here = machine(tmp_path, calls, crontab="0 5 * * * backup\n")
    schedule = make(tmp_path / "results")
    made = install.install(schedule, kind, here)
    assert all(path.is_file() and path.is_relative_to(tmp_path) for path in made.files)
    assert state.read(schedule)["kind"] == kind
    assert definition.read(tmp_path / "results", "nightly") == schedule
    assert "SECRET" not in str(made)
    install.remove(schedule, kind, here)
    assert not any(path.exists() for path in [*made.files, schedule.file])
    if kind == "cron":
        assert here.call(("crontab", "-l"), "")[1] == "0 5 * * * backup\n"
    else:
        assert {command for command, _ in calls} >= {*made.start, *made.stop}


def test_the_tokens_file_is_needed_where_there_is_a_fleet(tmp_path: Path) -> None:
    schedule = make(tmp_path, address="auto")
    with pytest.raises(CellbenchError, match="RAY_AUTH_TOKEN only"):
        install.unit(schedule, "cron", machine(tmp_path, environment={"RAY_AUTH_TOKEN": "topsecret"}))
    files.write(tmp_path / "home/.ray/auth_token", "topsecret", make_folder=True)
    made = install.unit(schedule, "cron", machine(tmp_path, environment={"RAY_AUTH_TOKEN": "topsecret"}))
    assert "RAY_AUTH_MODE=token" in str(made.files)
    assert "topsecret" not in str(made)


def test_what_cannot_be_installed_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="no profile"):
        install.install(make(tmp_path / "a", profile="nope"), "cron", machine(tmp_path))
    with pytest.raises(CellbenchError, match="take root"):
        install.install(make(tmp_path / "a"), "systemd", machine(tmp_path, is_root=False))
    refusing = machine(tmp_path, call=lambda command, text: (127, "no such command"))
    with pytest.raises(CellbenchError, match="no command crontab"):
        install.install(make(tmp_path / "b"), "cron", refusing)
    assert not (tmp_path / "a").exists()
