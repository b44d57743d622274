import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import CellbenchError
from harness.judge import annotations
from tests.conftest import RUN_ID


def test_what_was_said_is_read_again_in_order(tmp_path: Path) -> None:
    assert annotations.read(tmp_path) == []
    first = annotations.new("tag", "run-1", name="before")
    second = annotations.new("accepted", "run-2", why="torch 2.14 “faster”", alarm="ab", series_key="s", metric="time")
    annotations.add(tmp_path, [first])
    annotations.add(tmp_path, [second])
    assert annotations.read(tmp_path) == [first, second]
    assert [json.loads(line)["kind"] for line in (tmp_path / annotations.FILE).read_text().splitlines()] == [
        "tag", "accepted",
    ]  # fmt: skip


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: annotations.add(tmp_path, [annotations.new("tag", f"run-{i}", name="x")]), range(40)))
    assert {each.run_id for each in annotations.read(tmp_path)} == {f"run-{i}" for i in range(40)}
    assert not list(tmp_path.glob("*.tmp"))


def test_a_line_without_an_end_does_not_swallow_the_next(tmp_path: Path) -> None:
    (tmp_path / annotations.FILE).write_text('{"kind": "tag", "run_id": "r", "at": "", "by": "", "future": 1}')
    annotations.add(tmp_path, [annotations.new("tag", "s", name="x")])
    assert [each.run_id for each in annotations.read(tmp_path)] == ["r", "s"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"kind": "tag"}'])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / annotations.FILE).write_text("\n" + damage + "\n")
    with pytest.raises(CellbenchError) as error:
        annotations.read(tmp_path)
    assert f"{annotations.FILE}:2" in error.value.where


def test_what_was_said_elsewhere_is_taken_in_once(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    both, theirs = annotations.new("tag", RUN_ID, name="a"), annotations.new("tag", RUN_ID, name="b")
    annotations.add(here, [both])
    annotations.add(there, [both, theirs])
    assert [annotations.merge(here, there) for _ in range(2)] == [1, 0]
    assert annotations.read(here) == [both, theirs]
    assert annotations.merge(here, tmp_path / "nobody") == 0
