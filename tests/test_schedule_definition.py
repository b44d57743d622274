from datetime import datetime
from pathlib import Path

import pytest

from harness.errors import CellbenchError
from harness.schedule import definition, state
from harness.schedule.definition import Schedule


def make(folder: Path, **changes: object) -> Schedule:
    return definition.make(**{"profile": "quick", "out": str(folder), "folder": "/tmp", **changes})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    schedule = make(
        tmp_path, days=("mon", "fri"), address="10.0.0.1:6379", run_flags=("--no-ray",), webhook="https://chat/x?t=1",
        command='mail -s "news \\ of\tthe night" me', markdown="/tmp/ä.md",
    )  # fmt: skip
    path = definition.write(schedule)
    assert definition.read(tmp_path, "nightly") == schedule
    assert path.stat().st_mode & 0o777 == 0o600  # the webhook's address is a secret
    assert definition.names(tmp_path) == ["nightly"]


@pytest.mark.parametrize(
    ("changes", "output"),
    [
        ({"at": "25:00"}, "--at: a time of day is HH:MM"),
        ({"at": "2:30"}, "--at"),
        ({"days": ("someday",)}, "--days"),
        ({"name": "../x"}, "--name: a name is made of"),
        ({"webhook": "ftp://x"}, "--webhook: a webhook is an http"),
        ({"timeout_h": 0}, "--timeout-h"),
        ({"notify": "never"}, "--notify"),
    ],
)
def test_mistakes_are_named_by_their_flag(tmp_path: Path, changes: dict[str, object], output: str) -> None:
    with pytest.raises(CellbenchError) as error:
        make(tmp_path, **changes)
    assert output in error.value.where


@pytest.mark.parametrize("text", ["name = ", "profile = 1\nout = 'x'\nfolder = 'y'", "colour = 'red'", "\xff"])
def test_a_damaged_schedule_is_named(tmp_path: Path, text: str) -> None:
    path = definition.definition_file(tmp_path, "nightly")
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CellbenchError) as error:
        definition.read(tmp_path, "nightly")
    assert str(path) in error.value.where


def test_one_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    definition.write(make(tmp_path, name="weekly"))
    with pytest.raises(CellbenchError, match="no schedule 'nightly'") as error:
        definition.read(tmp_path, "nightly")
    assert "weekly" in error.value.fix


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()


def test_a_missed_start_is_due_and_a_served_one_is_not(tmp_path: Path) -> None:
    schedule = make(tmp_path, at="02:30")
    assert state.is_due(schedule, local("2026-01-01"))
    state.remember(schedule, installed_at="2026-01-01T12:00:00")  # as earlier versions wrote it: local
    assert not state.is_due(schedule, local("2026-01-02 02:29"))
    assert state.is_due(schedule, local("2026-01-02 02:30"))
    state.remember(schedule, begun_at=local("2026-01-02 02:30").isoformat())
    assert not state.is_due(schedule, local("2026-01-02 23:00"))
    assert state.is_due(schedule, local("2026-01-04 09:00"))  # the machine was off at half past two
    for damage in ("{", "[]", '{"begun_at": 3}', '{"begun_at": "soon"}', '{"begun_at": null}'):
        (schedule.home / "state.json").write_text(damage)
        assert state.is_due(schedule, local("2026-01-02 02:00"))


@pytest.mark.parametrize("name", state.MOMENTS)
@pytest.mark.parametrize(
    "ahead", ["2026-01-02T03:00:00", "2026-01-03T02:31:00", "2026-02-01T00:00:00", "2090-01-01T00:00:00"]
)
def test_a_clock_that_was_ahead_holds_no_night_up(tmp_path: Path, name: str, ahead: str) -> None:
    schedule, now = make(tmp_path, at="02:30"), local("2026-01-02 02:30")
    served = {"installed_at": "2026-01-01T12:00:00", "begun_at": "2026-01-01T12:00:00"}
    state.remember(schedule, **served)
    assert state.clock_was_ahead(schedule, now) is None
    state.remember(schedule, **{name: ahead})
    assert state.is_due(schedule, now)
    warning = state.clock_was_ahead(schedule, now)
    assert warning is not None
    assert ahead in warning
    assert "timedatectl" in warning
    state.remember(schedule, **{name: now.isoformat()})  # this night
    assert not state.is_due(schedule, now)
    assert state.clock_was_ahead(schedule, now) is None


@pytest.mark.parametrize("name", ["node", "node-21000"])
def test_a_schedule_is_not_called_like_a_nodes_service(tmp_path: Path, name: str) -> None:
    with pytest.raises(CellbenchError) as error:
        make(tmp_path, name=name)
    assert "--name: node is the name of the service" in error.value.where
