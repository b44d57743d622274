import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.errors import CellbenchError, StorageError
from harness.query import Session
from harness.store import Store, parquet
from harness.store import compact as compaction
from tests.conftest import RUN_ID, make_sample, make_store

RUNS = [RUN_ID, "20260102T040405Z-abc124", "20260105T030405Z-abc125", "20260205T030405Z-abc126"]
SAMPLES = [make_sample(run_id=run_id, repetition=i, elapsed_s=i + 1.0) for run_id in RUNS for i in range(3)]


def rows(store: Store) -> list[str]:
    return sorted(map(str, store.dataset().to_table().to_pylist()))


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root / "samples").as_posix() for path in (root / "samples").rglob("*.*"))


def test_a_month_becomes_one_file_with_the_same_rows(tmp_path: Path) -> None:
    store = make_store(tmp_path, SAMPLES)
    before = rows(store)
    [month] = store.compact()
    assert (month.n_files, month.n_rows) == (3, 9)
    assert rows(store) == before
    assert [name.split("/")[0] for name in names(tmp_path)] == ["month=2026-01", "month=2026-02"]
    assert store.compact() == []  # and again: nothing to do
    assert pq.ParquetFile(month.path).schema_arrow.names == pq.read_schema(month.path).names


def test_what_comes_later_is_taken_in_too(tmp_path: Path) -> None:
    store = make_store(tmp_path, SAMPLES)
    store.compact()
    make_store(tmp_path, [make_sample(run_id="20260106T030405Z-abc127")])
    before = rows(store)
    [month] = store.compact()
    assert (month.n_files, month.n_rows) == (2, 10)
    assert rows(store) == before


class Killed(BaseException):
    pass


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The step-th change of the disk, and every one after it, does not happen any more."""
    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 999_999_999)  # no process has this id, as after a kill
        for name in ("replace", "unlink", "remove", "fsync", "ftruncate"):
            real = getattr(os, name)

            def act(*args: object, real=real, name: str = name, **kwargs: object) -> object:
                if len(done) >= step:
                    raise Killed
                done.append(name)
                return real(*args, **kwargs)

            patch.setattr(os, name, act)
        yield done


@pytest.mark.slow
def test_killed_between_any_two_steps_nothing_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(make_store(tmp_path / "template", SAMPLES))
    for step in range(100):
        root = tmp_path / str(step)
        shutil.copytree(tmp_path / "template", root)
        store = Store(root)
        with killed_at(step, monkeypatch) as done:
            try:
                store.compact()
                ended = True
            except Killed:
                ended = False
        assert rows(Store(root)) == before, f"a reader after {done}"
        assert rows(Store.at(root)) == before, f"the next command after {done}"
        Store.at(root).compact()
        assert rows(store) == before
        assert len([name for name in names(root) if name.endswith(".parquet")]) == 2
        assert [name for name in names(root) if name.endswith(".tmp")] == []
        if ended:
            assert step > 5
            return
    raise AssertionError("it never ended")


def test_a_reader_does_not_notice_that_files_are_compacted_under_it(tmp_path: Path) -> None:
    store = make_store(tmp_path, SAMPLES)
    session = Session(store)
    store.compact()
    assert session.table("SELECT count(*) AS n, sum(elapsed_s) AS s FROM samples").to_pylist() == [{"n": 12, "s": 24.0}]


def test_files_that_somebody_copies_back_are_not_counted_twice(tmp_path: Path) -> None:
    store = make_store(tmp_path, SAMPLES)
    originals = {path: Path(path).read_bytes() for path in store.files()}
    before = rows(store)
    store.compact()
    make_store(tmp_path, [make_sample(run_id="20260106T030405Z-abc127")])
    store.compact()
    added = rows(store)
    for path, content in originals.items():
        Path(path).write_bytes(content)
    assert rows(Store.at(tmp_path)) == added
    assert len(added) == len(before) + 1
    store.compact()
    assert len(store.files()) == 2
    assert rows(store) == added


def test_other_samples_under_a_name_that_was_compacted_are_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path, SAMPLES)
    store.compact()
    make_store(tmp_path, [make_sample(repetition=99)])  # the same run goes on: the same name is free again
    assert len(rows(store)) == len(SAMPLES) + 1


def test_a_run_that_goes_on_overwrites_nothing(tmp_path: Path) -> None:
    make_store(tmp_path, [make_sample(repetition=0)])
    store = make_store(tmp_path, [make_sample(repetition=1)])
    assert [path.name for path in store.files()] == [f"{RUN_ID}-desk-2.parquet", f"{RUN_ID}-desk.parquet"]
    assert len(rows(store)) == 2


def test_nodes_whose_names_look_the_same_as_files_keep_their_own(tmp_path: Path) -> None:
    store = make_store(tmp_path, [make_sample(node=node) for node in ("a/b", "a_b", "a_b-2", "a:b")])
    assert sorted(row["node"] for row in store.dataset().to_table().to_pylist()) == ["a/b", "a:b", "a_b", "a_b-2"]


def test_only_one_command_at_a_time_rewrites(tmp_path: Path) -> None:
    store = make_store(tmp_path, SAMPLES)
    with compaction.alone(tmp_path), pytest.raises(CellbenchError, match="another command"):
        store.compact()
    assert len(store.compact()) == 1


@pytest.mark.parametrize("which", ["here", "there", "both"])
def test_merging_knows_what_was_compacted(tmp_path: Path, which: str) -> None:
    here = make_store(tmp_path / "here", SAMPLES)
    there = make_store(tmp_path / "there", [*SAMPLES, make_sample(node="mac"), make_sample(node="air")])
    before = rows(there)
    for name, store in (("here", here), ("there", there)):
        if which in (name, "both"):
            store.compact()
    assert here.merge(there) == (2, 4)
    assert here.merge(there) == (0, 6)
    assert rows(here) == before


def test_a_difference_is_found_in_compacted_files_too(tmp_path: Path) -> None:
    here = make_store(tmp_path / "here", SAMPLES)
    there = make_store(tmp_path / "there", [make_sample(elapsed_s=77.0), make_sample(node="mac")])
    here.compact()
    before = rows(here)
    with pytest.raises(CellbenchError, match="nothing was merged"):
        here.merge(there)
    assert rows(here) == before


def test_a_run_that_has_gone_on_there_is_completed(tmp_path: Path) -> None:
    here = make_store(tmp_path / "here", [make_sample(repetition=0)])
    there = make_store(tmp_path / "there", [make_sample(repetition=i) for i in range(2)])
    assert here.merge(there) == (1, 0)
    assert rows(here) == rows(there)
    assert there.merge(here) == (0, 1)


def test_a_merge_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = make_store(tmp_path / "here", SAMPLES)
    there = make_store(tmp_path / "there", [make_sample(node=node) for node in ("a", "b", "c")])
    before, put, calls = names(tmp_path / "here"), parquet.put, []

    def full(filesystem: object, target: Path, write: object) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise StorageError("No space left on device")
        put(filesystem, target, write)

    monkeypatch.setattr(parquet, "put", full)
    with pytest.raises(StorageError, match="No space"):
        here.merge(there)
    assert names(tmp_path / "here") == before
