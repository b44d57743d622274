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
    ("changes", "said"),
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
def test_mistakes_are_named_by_their_flag(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(CellbenchError) as error:
        make(tmp_path, **changes)
    assert said in error.value.where


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


def test_the_last_time_it_was_to_start(tmp_path: Path) -> None:
    daily, mondays = make(tmp_path), make(tmp_path, days=("mon",))
    wednesday = datetime(2026, 11, 25, 2, 30)
    assert daily.previous(wednesday) == wednesday
    assert daily.previous(wednesday.replace(minute=29)) == datetime(2026, 11, 24, 2, 30)
    assert mondays.previous(wednesday) == datetime(2026, 11, 23, 2, 30)
    assert mondays.previous(datetime(2026, 11, 23, 1, 0)) == datetime(2026, 11, 16, 2, 30)


def test_a_missed_start_is_due_and_a_served_one_is_not(tmp_path: Path) -> None:
    schedule = make(tmp_path)
    assert state.is_due(schedule, datetime(2026, 1, 1))
    state.remember(schedule, installed_at="2026-01-01T12:00:00")
    assert not state.is_due(schedule, datetime(2026, 1, 2, 2, 29))
    assert state.is_due(schedule, datetime(2026, 1, 2, 2, 30))
    state.remember(schedule, begun_at="2026-01-02T02:30:00")
    assert not state.is_due(schedule, datetime(2026, 1, 2, 23, 0))
    assert state.is_due(schedule, datetime(2026, 1, 4, 9, 0))  # the machine was off at half past two
    (schedule.home / "state.json").write_text("{")
    assert state.is_due(schedule, datetime(2026, 1, 2, 2, 0))
