"""A schedule as a job of this machine: which manager, what it keeps, and what its user is told."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import files
from harness.cli.app import app
from harness.errors import CellbenchError
from harness.schedule import definition, install, state
from harness.services import manager
from tests.test_schedule_definition import local, make
from tests.test_services import machine


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


@pytest.mark.parametrize("kind", manager.KINDS)
def test_install_and_remove(tmp_path: Path, kind: str) -> None:
    calls: list[Any] = []
    here = machine(tmp_path, calls, crontab="0 5 * * * backup\n")
    schedule = make(tmp_path / "results")
    made = install.install(schedule, kind, here)
    assert all(path.is_file() for path in made.files)
    assert state.read(schedule)["kind"] == kind
    assert definition.read(tmp_path / "results", "nightly") == schedule
    assert "SECRET" not in str(made)
    assert state.environment(schedule).variables == {"PATH": "/bin"}
    install.remove(schedule, kind, here)
    assert not any(path.exists() for path in [*made.files, schedule.file])


def test_the_tokens_file_is_needed_where_there_is_a_fleet(tmp_path: Path) -> None:
    schedule, here = make(tmp_path, address="auto"), machine(tmp_path, environment={"RAY_AUTH_TOKEN": "topsecret"})
    with pytest.raises(CellbenchError, match="RAY_AUTH_TOKEN only"):
        install.install(schedule, "cron", here)
    files.write(tmp_path / "home/.ray/auth_token", "topsecret", make_folder=True)
    made = install.install(schedule, "cron", here)
    assert "RAY_AUTH_MODE=token" in str(made.files)
    assert "topsecret" not in str(made)
    (tmp_path / "home/.ray/auth_token").unlink()
    install.remove(schedule, "cron", here)  # which needs no token


def test_what_cannot_be_installed_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="no profile"):
        install.install(make(tmp_path / "a", profile="nope"), "cron", machine(tmp_path))
    with pytest.raises(CellbenchError, match="rights of root"):
        install.install(make(tmp_path / "a"), "systemd", machine(tmp_path, is_root=False))
    with pytest.raises(CellbenchError, match="no command crontab"):
        install.install(make(tmp_path / "b"), "cron", machine(tmp_path, answers={"crontab": 127}))
    assert not (tmp_path / "a").exists()


def test_a_start_that_the_clock_jumps_over_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        now, here = local("2026-03-28 12:00"), machine(tmp_path)
        schedule = make(tmp_path, at="02:30")
        first, *_ = install.starts(schedule, "systemd", now)
        assert first == "Sun 2026-03-29 03:00 +0200 (the clock jumps over 02:30: systemd leaves that day out)"
        assert any("jumps over 02:30" in hint for hint in install.hints(schedule, "cron", here, now))
        usual = make(tmp_path)
        assert install.starts(usual, "systemd", now)[0] == "Sun 2026-03-29 04:30 +0200"
        assert not any("jumps" in hint for hint in install.hints(usual, "cron", here, now))
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


def invoke(*words: object) -> Any:
    done = CliRunner().invoke(app, ["schedule", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine has cron, and a proxy with a password."""
    environ = {"PATH": "/bin", "HTTP_PROXY": "http://me:pass@proxy", "CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.setattr(manager, "this_machine", lambda: machine(tmp_path, environment=environ, has_systemd=False))
    return tmp_path / "results"


@pytest.mark.parametrize("words", [["install"], ["install", "--dry-run"]], ids=["install", "dry-run"])
def test_install_says_when_it_starts_and_what_it_keeps(here: Path, words: list[str]) -> None:
    output = invoke(*words, "--out", here).stderr
    assert output.count("  starts ") == 3
    assert "  keeps CUDA_VISIBLE_DEVICES=1\n" in output
    assert "HTTP_PROXY is not kept: it holds a password" in output
    assert "pass@" not in output


def test_show_says_when_it_starts_and_what_it_keeps(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke("install", "--out", here)
    schedule = definition.read(here, "nightly")
    done = invoke("show", "--out", here)
    assert done.stdout.count("  starts ") == 3
    assert "  keeps CUDA_VISIBLE_DEVICES=1\n" in done.stdout
    assert "HTTP_PROXY is not kept" in done.stdout
    assert done.stderr == ""
    [row] = json.loads(invoke("show", "--out", here, "--json").stdout)
    starts = [datetime.fromisoformat(text) for text in row["next"]]
    assert len(starts) == 3
    assert all(start.tzinfo and f"{start:%H:%M}" == schedule.at for start in starts)
    state.remember(schedule, begun_at="2090-01-01T00:00:00+00:00")
    assert "the clock was ahead" in invoke("show", "--out", here).stderr
    done = invoke("run-now", "--if-due", "--out", here)
    assert "the clock was ahead" in done.stderr
    assert "not due" in done.stderr  # it was installed just now
