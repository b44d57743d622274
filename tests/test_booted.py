"""What we hand to systemd and cron, started by them: the nights of a schedule, the node of a fleet."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from harness.schedule import definition, steps
from harness.store import Store, journal
from tests import booted
from tests.booted import Machine, until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(booted.why_not()), reason=str(booted.why_not()))]

PROFILE = 'models = ["sleep"]\ncrops = [64]\nrepeats = 1\ncontrol = false\nidle_wait_s = 0\n'
KINDS = ("systemd", "systemd-user", "cron")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with booted.booted(Path.home(), tmp_path / "console.txt") as machine:
        yield machine


def test_three_schedulers_start_a_night(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(PROFILE)
    machine.run("cron")
    machine.run("sh", "-c", f"mkdir -p /run/user/0; {booted.SYSTEMD} --user > /run/user/said 2>&1 &")
    until("the user's manager", lambda: machine.is_active("--user", "timers.target"), 20)

    soon = (datetime.now() + timedelta(seconds=105)).replace(second=0)  # at least 45 s: installing takes some of it
    for kind in KINDS:
        machine.cellbench(
            "schedule", "install", kind, "--via", kind, "--profile", tmp_path / "tiny.toml", "--run-flags=--no-ray",
            "--at", soon.strftime("%H:%M"), "--markdown", tmp_path / f"{kind}.md", "--out", tmp_path / kind,
        )  # fmt: skip
    assert datetime.now() < soon
    for kind in KINDS:
        until(f"the night of {kind}", (tmp_path / f"{kind}.md").exists, 300)
        assert "nothing unusual" in (tmp_path / f"{kind}.md").read_text()
    for kind in KINDS:
        shown = machine.cellbench("schedule", "show", "--out", tmp_path / kind)
        assert ": ok, run " in shown
        assert (soon + timedelta(days=1)).strftime("%Y-%m-%d %H:%M:00") in shown or kind == "cron"
    assert "nothing unusual" in (tmp_path / "cron/schedule/cron/scheduler.log").read_text()
    assert "nothing unusual" in _log(machine, "cellbench-systemd")

    out = tmp_path / "systemd"
    n_rows = Store.at(out).table().num_rows
    (tmp_path / "tiny.toml").write_text(PROFILE.replace("repeats = 1", "repeats = 2000"))  # to be stopped on its way
    _turned_off_for_two_days(machine, out)
    until("the missed night", lambda: any(journal.read(path).num_rows for path in out.glob("journal/*.arrows")), 180)
    machine.run("systemctl", "stop", "cellbench-systemd.service")
    assert not steps.running_runs(out)
    assert Store.at(out).table().num_rows > n_rows
    until("what it says as it stops", lambda: "what was measured is saved" in _log(machine, "cellbench-systemd"), 20)

    assert "cellbench" in machine.run("crontab", "-l")
    for kind in KINDS:
        machine.cellbench("schedule", "remove", kind, "--out", tmp_path / kind)
    for scope in ([], ["--user"]):
        assert "cellbench" not in machine.run("systemctl", *scope, "list-timers", "--all")
        assert "cellbench" not in machine.run("systemctl", *scope, "list-unit-files")
    assert "cellbench" not in machine.run("crontab", "-l")


def _log(machine: Machine, service: str) -> str:
    return machine.run("journalctl", "--unit", f"{service}.service", "--output", "cat")


def _turned_off_for_two_days(machine: Machine, out: Path) -> None:
    """As if the machine had been off: the timer stops, what it and we remember is two days older, it starts again."""
    machine.run("systemctl", "stop", "cellbench-systemd.timer")
    machine.run("touch", "--date", "2 days ago", "/var/lib/systemd/timers/stamp-cellbench-systemd.timer")
    path = definition.read(out, "systemd").home / "state.json"
    answer = json.loads(path.read_text())
    for name in ("installed_at", "begun_at"):
        answer[name] = (datetime.fromisoformat(answer[name]) - timedelta(days=2)).isoformat()
    path.write_text(json.dumps(answer))
    machine.run("systemctl", "start", "cellbench-systemd.timer")


def test_systemd_keeps_a_node_up(machine: Machine) -> None:
    machine.cellbench("node", "token")
    assert "cellbench-node.service is written" in machine.cellbench("node", "install", "--head", "--name", "desk")

    def is_up() -> bool:
        return "1 node of the fleet" in machine.cellbench("node", "status", may_fail=True)

    until("the node", is_up, 90)
    first = _pids(machine, "raylet/raylet")
    machine.run("kill", "-KILL", *first)
    until("another raylet", lambda: _pids(machine, "raylet/raylet") - first, 90)
    until("the node again", is_up, 90)
    assert f"is the head of a fleet: {booted.ADDRESS}:6379" in _log(machine, "cellbench-node")

    machine.cellbench("node", "uninstall")
    assert _pids(machine, "ray|harness") == set()
    assert "cellbench" not in machine.run("systemctl", "list-unit-files")


def _pids(machine: Machine, words: str) -> set[str]:
    """Processes there with this pattern in their command line."""
    return set(machine.run("pgrep", "--full", words, may_fail=True).split())
