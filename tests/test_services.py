"""Jobs as the service managers themselves read them, where they are there to be asked."""

import os
import plistlib
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CellbenchError
from harness.services import environment, manager, units
from harness.services.environment import Environment
from harness.services.manager import Machine
from harness.services.times import Times
from harness.services.units import Job
from tests.conftest import REPOSITORY

AWKWARD = 'a "b" 50%$ \\ c'
NIGHTLY = Job(
    name="cellbench-nightly",
    description="Cellbench schedule nightly: profile my%profile.toml",
    argv=("/opt/cell bench/python", "-m", "harness", "5%$x", "it's; a `word`", ""),
    environment=Environment({"PATH": "/usr/bin:/bin", "AWKWARD": AWKWARD}),
    folder="/tmp",
    log=Path("/home/me/50% of it/scheduler.log"),
    stop_s=120,
    user="me",
    times=Times(2, 30, ("sun", "mon")),
    limit_h=20.5,
    stop_signal="SIGINT",
)
NODE = replace(NIGHTLY, name="cellbench-node", times=None, stop_s=45, stop_signal="SIGTERM")
SCRIPT = Path("/home/me/50% of it/start.sh")


def machine(tmp_path: Path, calls: list[Any] | None = None, crontab: str | None = None, **changes: Any) -> Machine:
    """A machine whose service managers note what they are told; answer: what a command ends with, by a word of it."""
    table, answers = {"text": crontab}, changes.pop("answers", {})

    def call(command: tuple[str, ...], text: str) -> tuple[int, str]:
        if calls is not None:
            calls.append((command, text))
        for word, status in answers.items():
            if word in command:
                return status, "not today"
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


def settings(unit: str) -> dict[str, list[str]]:
    """The settings of a unit by their names."""
    pairs = [line.partition("=") for line in unit.splitlines() if "=" in line]
    return {key: [value for name, _, value in pairs if name == key] for key, _, _ in pairs}


# ------------------------------------------------------------------ systemd


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize(("job", "user"), list(product([NIGHTLY, NODE], ["root", None])))
def test_systemd_accepts_the_units(tmp_path: Path, job: Job, user: str | None) -> None:
    python = tmp_path / "cell bench%" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    made = units.systemd(replace(job, user=user, argv=(str(python), *job.argv[1:])), tmp_path)
    for path, text in made.files.items():
        path.write_text(text)
    for path in made.files:
        done = subprocess.run(
            ["systemd-analyze", "--system" if user else "--user", "verify", "--man=no", path],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        complaints = [line for line in done.stderr.splitlines() if "cellbench" in line]
        assert (done.returncode, complaints) == (0, []), done.stderr


def test_a_night_stops_like_ctrl_c_and_is_caught_up() -> None:
    service, timer = map(settings, units.systemd(NIGHTLY, Path("/u")).files.values())
    assert (service["Type"], service["User"], service["TimeoutStartSec"]) == (["oneshot"], ["me"], ["20.5h"])
    assert (service["KillSignal"], service["KillMode"], service["TimeoutStopSec"]) == (["SIGINT"], ["mixed"], ["120"])
    assert '"AWKWARD=a \\"b\\" 50%%$ \\\\ c"' in service["Environment"]
    assert "Restart" not in service and "WantedBy" not in service
    assert (timer["OnCalendar"], timer["Persistent"]) == (["Sun,Mon *-*-* 02:30:00"], ["true"])
    assert timer["Unit"] == ["cellbench-nightly.service"]


def test_a_node_is_never_given_up_and_stops_in_order() -> None:
    made = units.systemd(NODE, Path("/u"))
    [text] = made.files.values()
    service = settings(text)
    assert (service["Type"], service["Restart"], service["RestartSec"]) == (["simple"], ["always"], ["10"])
    assert (service["KillSignal"], service["KillMode"], service["TimeoutStopSec"]) == (["SIGTERM"], ["mixed"], ["45"])
    assert "StartLimitIntervalSec=0" in text.split("[Service]")[0]  # elsewhere systemd passes over it
    assert service["WantedBy"] == ["multi-user.target"]
    assert made.begin == "sudo systemctl start cellbench-node.service"


@pytest.mark.parametrize("job", [NIGHTLY, NODE])
def test_the_users_own_manager_names_no_user(job: Job) -> None:
    made = units.systemd(replace(job, user=None), Path("/u"))
    text = "".join(made.files.values())
    assert "User=" not in text and "network-online" not in text
    assert all(command[:2] == ("systemctl", "--user") for command in (*made.start, *made.stop, *made.forget))
    assert not made.needs_root


def test_words_of_a_command_mean_themselves() -> None:
    [line] = settings(next(iter(units.systemd(NODE, Path("/u")).files.values())))["ExecStart"]
    assert line == '"/opt/cell bench/python" "-m" "harness" "5%%$$x" "it\'s; a `word`" ""'


# ------------------------------------------------------------------ launchd and cron


@pytest.mark.parametrize("job", [NIGHTLY, NODE])
def test_launchd_gets_a_daemon(tmp_path: Path, job: Job) -> None:
    made = units.launchd(job, tmp_path)
    [(path, text)] = made.files.items()
    plist = plistlib.loads(text.encode())
    assert path == tmp_path / f"{plist['Label']}.plist"
    assert plist["Label"] == f"org.cellbench.{job.name.removeprefix('cellbench-')}"
    assert (plist["UserName"], plist["ProcessType"], plist["RunAtLoad"]) == ("me", "Interactive", True)
    assert plist["EnvironmentVariables"] == job.environment.variables
    assert plist["ExitTimeOut"] == job.stop_s
    assert made.start == (("launchctl", "bootstrap", "system", str(path)),)
    if job.times:
        assert plist["ProgramArguments"] == ["/usr/bin/caffeinate", "-is", *job.argv]
        assert plist["StartCalendarInterval"] == [
            {"Weekday": 0, "Hour": 2, "Minute": 30}, {"Weekday": 1, "Hour": 2, "Minute": 30},
        ]  # fmt: skip
        assert "KeepAlive" not in plist
    else:
        assert plist["ProgramArguments"] == list(job.argv)
        assert (plist["KeepAlive"], plist["ThrottleInterval"]) == (True, 10)
        assert "StartCalendarInterval" not in plist
    if lint := shutil.which("plutil") or shutil.which("xmllint"):
        path.write_text(text)
        subprocess.run([lint, *(["-lint"] if "plutil" in lint else ["--noout"]), path], check=True)


def test_the_cron_lines_are_what_cron_reads() -> None:
    made = units.cron(NIGHTLY, SCRIPT)
    _, daily, boot, _ = made.crontab
    *when, command = daily.split(maxsplit=5)
    assert when == ["30", "2", "*", "*", "0,1"]
    assert boot == f"@reboot sleep 120; {command}"
    assert not re.search(r"(?<!\\)%", command)  # a bare percent sign is a line break to cron
    [(script, text)] = made.files.items()
    assert shlex.split(command.replace(r"\%", "%")) == ["/bin/sh", str(script)]
    words = shlex.split(text)
    assert words[:6] == ["cd", "/tmp", "&&", "exec", "/usr/bin/env", f"AWKWARD={AWKWARD}"]
    assert tuple(words[7 : 7 + len(NIGHTLY.argv)]) == NIGHTLY.argv


def test_a_crontab_keeps_everybody_elses_lines() -> None:
    made, other = (units.cron(replace(NIGHTLY, name=f"cellbench-{name}"), SCRIPT) for name in ("nightly", "nightly-2"))
    before = "# mine\n0 5 * * * backup"
    once = units.with_lines(before, made)
    assert units.with_lines(once, made) == once
    both = units.with_lines(once, other)
    assert units.without_lines(units.without_lines(both, made), other) == before + "\n"
    assert units.without_lines("", made) == ""


# ------------------------------------------------------------------ the machine


def unit(kind: str, here: Machine) -> units.Unit:
    user = "me" if kind in ("systemd", "launchd") else None
    return manager.unit(replace(NIGHTLY, user=user), kind, here, here.home / "start.sh")


@pytest.mark.parametrize("kind", manager.KINDS)
def test_install_again_and_remove(tmp_path: Path, kind: str) -> None:
    calls: list[Any] = []
    here = machine(tmp_path, calls, crontab="0 5 * * * backup\n")
    made = unit(kind, here)
    for _ in range(2):
        manager.install(made, here)
    assert all(path.is_relative_to(tmp_path) and path.read_text() == text for path, text in made.files.items())
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in made.files)
    assert manager.remove(made, here)
    assert not any(path.exists() for path in made.files)
    assert {command for command, _ in calls} >= {*made.start, *made.stop, *made.forget}
    if kind == "cron":
        assert here.call(("crontab", "-l"), "")[1] == "0 5 * * * backup\n"
    assert not manager.remove(made, here)


@pytest.mark.parametrize(
    ("kind", "word"),
    [("systemd", "enable"), ("systemd-user", "daemon-reload"), ("launchd", "bootstrap"), ("cron", "-")],
)
@pytest.mark.parametrize("before", [None, "an older unit"])
@pytest.mark.parametrize(("status", "output"), [(1, "failed: not today"), (127, "there is no command")])
def test_what_cannot_be_started_leaves_what_was_there(
    tmp_path: Path, kind: str, word: str, before: str | None, status: int, output: str
) -> None:
    here = machine(tmp_path, answers={word: status})
    made = unit(kind, here)
    for path in made.files:
        path.parent.mkdir(parents=True, exist_ok=True)
        if before:
            path.write_text(before)
    with pytest.raises(CellbenchError, match=output):
        manager.install(made, here)
    for path in made.files:
        assert (path.read_text() if before else path.exists()) == (before or False)


def test_units_of_the_whole_machine_take_root(tmp_path: Path) -> None:
    here = machine(tmp_path, is_root=False)
    for kind in manager.KINDS:
        if kind in ("systemd", "launchd"):
            with pytest.raises(CellbenchError, match="rights of root") as refused:
                manager.check_rights(unit(kind, here), here, "use sudo")
            assert refused.value.fix == "use sudo"
        else:
            manager.check_rights(unit(kind, here), here, "use sudo")


def test_a_service_that_does_not_run_is_no_reason_to_keep_its_file(tmp_path: Path) -> None:
    here = machine(tmp_path, answers={"disable": 1})
    made = unit("systemd", here)
    manager.install(made, here)
    assert manager.remove(made, here)
    assert not any(path.exists() for path in made.files)


# ------------------------------------------------------------------ what a job keeps


def test_one_list_of_variables_is_kept_and_documented() -> None:
    everything = {name: f"value of {name}" for name in (*environment.KEPT, "RAY_AUTH_TOKEN", "OMP_NUM_THREADS", "X")}
    assert set(environment.job_environment(everything).variables) == set(environment.KEPT)
    documented = (REPOSITORY / "docs" / "scheduling.md").read_text()
    assert [name for name in environment.KEPT if f"`{name}`" not in documented] == []


@pytest.mark.parametrize(
    ("value", "is_secret"),
    [
        ("http://me:pass@proxy:3128", True), ("http://me:p%40ss@proxy", True), ("socks5://a:b@[::1]:1080", True),
        ("http://proxy:3128", False), ("http://me@proxy:3128", False), ("proxy:3128", False),
        ("https://weights.org/a:b@c", False),
    ],
)  # fmt: skip
def test_a_variable_with_a_password_is_left_out_and_said(value: str, is_secret: bool) -> None:
    found = environment.job_environment({"HTTP_PROXY": value, "PATH": "/bin"})
    assert ("HTTP_PROXY" in found.variables) != is_secret
    assert any("HTTP_PROXY is not kept" in line for line in found.lines()) == is_secret
    assert not any(value in line for line in found.lines()) or not is_secret
