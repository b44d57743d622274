import errno
import io
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from harness import query, schema, store
from harness.errors import CellbenchError, StorageError, StoreWarning, warn_once
from harness.judge import alarms, selection
from harness.results import scope
from harness.run import resume
from harness.schedule import steps
from harness.store import Journal, Store, new_run_id, parquet, past_runs, read_journal, scan
from harness.store import journal as journals
from tests.conftest import REPOSITORY, RUN_ID, make_sample, make_store
from tests.test_files import HIDDEN


def rows(store: Store) -> list[dict[str, object]]:
    return store.dataset().to_table().to_pylist()


def test_samples_come_back_as_they_went_in(tmp_path: Path) -> None:
    samples = [make_sample(repetition=i, elapsed_s=1 + i / 7, error_message=None) for i in range(5)]
    back = rows(make_store(tmp_path, samples))
    assert [{k: row[k] for k in samples[0]} for row in back] == samples


def test_one_file_a_run_and_node_in_its_month(tmp_path: Path) -> None:
    make_store(tmp_path, [make_sample(node="desk"), make_sample(node="a/../b")])
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        f"samples/month=2026-01/{RUN_ID}-a_.._b.parquet",
        f"samples/month=2026-01/{RUN_ID}-desk.parquet",
    ]


def test_kill_9_loses_nothing_that_append_returned_from(tmp_path: Path) -> None:
    writer = (
        "import sys; from pathlib import Path; from harness.store import Store; from tests.conftest import *\n"
        f"with Store.make(Path({str(tmp_path)!r})).journal(RUN_ID) as journal:\n"
        "    for i in range(1000):\n"
        "        journal.append([make_sample(repetition=i)])\n"
        "        print(i, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", writer], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    last = -1
    for line in process.stdout:
        last = int(line)
        if last == 20:
            os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    recovered = sorted(row["repetition"] for row in rows(Store.at(tmp_path)))  # type: ignore[type-var]
    assert recovered[: last + 1] == list(range(last + 1))
    assert len(recovered) - 1 <= last + 1
    assert not list((tmp_path / "journal").iterdir())


def test_a_torn_last_sample_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "x.arrows")
    for i in range(3):
        journal.append([make_sample(repetition=i)])
    whole = journal.path.stat().st_size
    journal.append([make_sample(repetition=3)])
    torn = (tmp_path / "x.arrows").read_bytes()
    for cut in (whole + 1, whole + 100, len(torn) - 1):
        (tmp_path / "torn.arrows").write_bytes(torn[:cut])
        assert read_journal(tmp_path / "torn.arrows")["repetition"].to_pylist() == [0, 1, 2]
    journal.close()


def test_a_running_run_is_left_alone(tmp_path: Path) -> None:
    store = Store.make(tmp_path)
    with store.journal(RUN_ID) as journal:
        journal.append([make_sample()])
        assert rows(Store.at(tmp_path)) == []
        assert journal.path.exists()
    assert len(rows(Store.at(tmp_path))) == 1


def test_what_was_measured_is_kept_when_the_run_fails(tmp_path: Path) -> None:
    store = Store.make(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.journal(RUN_ID) as journal:
        journal.append([make_sample()])
        raise KeyboardInterrupt
    assert len(rows(store)) == 1


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="elapsed_ms"):
        make_store(tmp_path, [make_sample(elapsed_ms=3)])


def test_an_empty_store_has_no_samples(tmp_path: Path) -> None:
    assert rows(Store.make(tmp_path)) == []


def test_no_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="no results here yet"):
        Store.at(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CellbenchError, match="cannot be written"):
        Store.make(tmp_path / "file" / "results")


def test_files_that_are_not_ours_are_named(tmp_path: Path) -> None:
    store = make_store(tmp_path, [make_sample()])
    folder = tmp_path / "samples" / "month=2026-01"
    pq.write_table(pa.table({"x": [1]}), folder / "foreign.parquet")
    with pytest.raises(CellbenchError, match="not written by cellbench") as caught:
        store.dataset()
    assert "foreign.parquet" in (caught.value.where or "")


# ------------------------------------------------------------------ damage


LATELY_S, LONG_AGO_S = 60.0, parquet.SETTLED_S + 60.0


def changed_ago(path: Path, age_s: float) -> Path:
    """A file that was last changed so long ago."""
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def turned_bit(path: Path) -> bytes:
    """The file with a bit of a figure turned, which only its page's checksum tells."""
    column = pq.ParquetFile(path).metadata.row_group(0).column(schema.ARROW.names.index("elapsed_s"))
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    return bytes(content)


# What a file looks like while it is being copied, or after it was damaged.
DAMAGE: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda path: b"",
    "begun": lambda path: path.read_bytes()[:4],
    "half": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "all but the last byte": lambda path: path.read_bytes()[:-1],
    "with room for the rest": lambda path: path.read_bytes()[:-100] + bytes(100),
    "something else": lambda path: b"PAR1 torn",
    "a bit": turned_bit,
}


@pytest.fixture
def damaged(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Store, Path, bytes]:
    """A store of three nodes, one file of which is damaged; the file, and what it holds if it is whole."""
    made = make_store(tmp_path, [make_sample(node=node) for node in ("a", "b", "c")])
    path = next((tmp_path / "samples").rglob("*-b.parquet"))
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[request.param](path))
    return made, path, whole


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_a_file_that_is_being_copied_in_waits_and_is_read_when_it_is_whole(damaged: tuple[Store, Path, bytes]) -> None:
    made, path, whole = damaged
    for age_s in (0.0, LATELY_S, -3600.0):  # the last one as from a server whose clock is ahead
        changed_ago(path, age_s)
        warn_once.cache_clear()
        with pytest.warns(StoreWarning, match="may still be being copied"):
            assert sorted(made.table()["node"].to_pylist()) == ["a", "c"]
        with pytest.warns(StoreWarning, match="may still be being copied"):
            warn_once.cache_clear()
            made.compact()
        assert path.exists()
        assert not (Path(made.root) / "damaged").exists()
    path.write_bytes(whole)
    assert sorted(made.table()["node"].to_pylist()) == ["a", "b", "c"]


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_a_damaged_file_is_named_by_readers_and_set_aside_as_it_is_by_compact(
    damaged: tuple[Store, Path, bytes],
) -> None:
    made, path, _ = damaged
    content = changed_ago(path, LONG_AGO_S).read_bytes()
    warn_once.cache_clear()
    with pytest.warns(StoreWarning, match="damaged and left out.*cellbench compact"):
        assert sorted(made.table()["node"].to_pylist()) == ["a", "c"]
    assert made.table().num_rows == 2  # and no more is said
    assert path.read_bytes() == content
    with pytest.warns(StoreWarning, match=rf"{path.name} is damaged and was moved to .*damaged"):
        [month] = made.compact()
    assert (month.n_files, month.n_rows) == (2, 2)
    assert (Path(made.root) / "damaged" / path.name).read_bytes() == content
    assert sorted(made.table()["node"].to_pylist()) == ["a", "c"]
    path.write_bytes(content)
    changed_ago(path, LONG_AGO_S)
    make_store(Path(made.root), [make_sample(node="d")])
    with pytest.warns(StoreWarning):
        made.compact()
    assert sorted(each.name for each in (Path(made.root) / "damaged").iterdir()) == [path.name, f"{path.name}.1"]


def test_a_damaged_file_that_cannot_be_moved_is_left_out(tmp_path: Path) -> None:
    made = make_store(tmp_path, [make_sample()])
    (tmp_path / "damaged").write_text("in the way")
    (tmp_path / "samples" / "torn.parquet").write_bytes(b"PAR1 torn")
    changed_ago(tmp_path / "samples" / "torn.parquet", LONG_AGO_S)
    with pytest.warns(StoreWarning, match="cannot be moved"):
        made.compact()
    with pytest.warns(StoreWarning, match="damaged and left out"):
        assert len(rows(made)) == 1


def test_a_stream_of_rows_names_the_file_that_ends_it(tmp_path: Path) -> None:
    made = make_store(tmp_path, [make_sample(), make_sample(run_id="20260203T000000Z-ffffff", elapsed_s=1.2345)])
    [path] = (tmp_path / "samples" / "month=2026-02").iterdir()
    path.write_bytes(turned_bit(path))
    with pytest.raises(CellbenchError, match="cannot be read"):
        list(made.rows())


@pytest.mark.parametrize("name", [*HIDDEN, "_old.parquet", "__MACOSX/x.parquet", "month=2026-01/_x.parquet"])
def test_files_that_are_not_meant_for_us_are_no_results(tmp_path: Path, name: str) -> None:
    made = make_store(tmp_path, [make_sample()])
    path = tmp_path / "samples" / name.replace(".tif", ".parquet").replace(".TIF", ".parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0\5\x16\7")  # as AppleDouble begins
    assert len(rows(made)) == 1
    made.compact()
    assert path.exists()


@pytest.mark.parametrize("name", ["._RUN.arrows", ".RUN.arrows.Ab12Cd", "RUN.arrows.part", "RUN.arrows.tmp"])
def test_what_is_no_journal_is_left_alone(tmp_path: Path, name: str) -> None:
    Store.make(tmp_path)
    path = tmp_path / "journal" / name.replace("RUN", RUN_ID)
    path.write_bytes(b"\0\5\x16\7")
    assert Store.at(tmp_path).table().num_rows == 0
    assert steps.running_runs(tmp_path) == []
    assert path.exists()


def test_a_journal_that_is_being_copied_in_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.make(tmp_path / "there").journal(RUN_ID) as journal:
        for index in range(4):
            journal.append([make_sample(repetition=index)])
        content = journal.path.read_bytes()
    here = Store.make(tmp_path / "here")
    copy = tmp_path / "here" / "journal" / f"{RUN_ID}.arrows"
    for end in range(len(content) // 3, len(content) + 1, len(content) // 3):
        copy.write_bytes(content[:end])
        with monkeypatch.context() as patch:
            patch.setattr(journals.time, "sleep", lambda _: copy.write_bytes(content))
            if end < len(content):
                warn_once.cache_clear()
                with pytest.warns(StoreWarning, match="it grows"):
                    assert Store.at(here.root).table().num_rows == 0
            assert copy.exists()
    changed_ago(copy, journals.SETTLE_S)
    assert Store.at(here.root).table()["repetition"].to_pylist() == [0, 1, 2, 3]
    assert not copy.exists()


def test_a_killed_runs_journal_is_recovered_at_once_and_its_own_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(journals.time, "sleep", waits.append)
    with Store.make(tmp_path).journal(RUN_ID) as journal:
        journal.append([make_sample()])
    assert waits == []
    journal = Journal(tmp_path / "journal" / f"{RUN_ID}.arrows")
    journal.append([make_sample(repetition=1)])
    journal.close()
    assert Store.at(tmp_path).table().num_rows == 2
    assert len(waits) == 1
    assert 0 < waits[0] <= journals.SETTLE_S


def test_a_long_journal_is_read_in_order_and_joined(tmp_path: Path) -> None:
    n, path = 2 * journals.N_CHUNKS + 3, tmp_path / "long.arrows"
    journal = Journal(path)
    journal.close()
    with path.open("ab") as file:  # without a wait for the disk
        for i in range(n):
            [batch] = schema.table([make_sample(repetition=i, node=f"node-{i % 3}")]).to_batches()
            file.write(batch.serialize())
    found = read_journal(path)
    assert found["repetition"].to_pylist() == list(range(n))
    assert found["node"].to_pylist() == [f"node-{i % 3}" for i in range(n)]
    assert found["node"].num_chunks < 10  # a chunk for each sample takes 0.1 MB


def test_what_cannot_be_read_of_a_journal_is_set_aside(tmp_path: Path) -> None:
    Store.make(tmp_path)
    journal = Journal(tmp_path / "journal" / f"{RUN_ID}.arrows")
    for index in range(3):
        journal.append([make_sample(repetition=index)])
    journal.close()
    content = bytearray(journal.path.read_bytes())
    content[int(len(content) * 0.9)] ^= 255
    journal.path.write_bytes(content[:-100])
    with pytest.warns(StoreWarning, match="of its samples 2 could be read"):
        store = Store.at(tmp_path)
    assert len(rows(store)) == 2
    assert (tmp_path / "damaged" / journal.path.name).read_bytes() == content[:-100]
    assert not journal.path.exists()


def test_a_disk_that_is_full_leaves_every_sample_before_and_none_of_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, real, room = Store.make(tmp_path), os.write, [10**9]

    def write(file: int, content: memoryview) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n = real(file, content[: room[0]])
        room[0] -= n
        return n

    monkeypatch.setattr("harness.store.journal.os.write", write)
    with pytest.raises(StorageError, match="No space left"), store.journal(RUN_ID) as journal:
        journal.append([make_sample(repetition=0)])
        room[0] = 1000
        with pytest.raises(StorageError):
            journal.append([make_sample(repetition=1)])
        room[0] = 10**9
        journal.append([make_sample(repetition=2)])  # half of the second sample is not in the way
        room[0] = 0
        journal.append([make_sample(repetition=3)])
    assert [row["repetition"] for row in rows(store)] == [0, 2]


def test_a_journal_waits_where_no_parquet_can_be_written(tmp_path: Path) -> None:
    store = Store.make(tmp_path)
    (tmp_path / "samples").write_text("in the way")
    with pytest.warns(StoreWarning, match="samples of a run wait in"), store.journal(RUN_ID) as journal:
        journal.append([make_sample()])
    (tmp_path / "samples").unlink()
    assert len(rows(Store.at(tmp_path))) == 1
    assert not list((tmp_path / "journal").iterdir())


def test_a_run_has_one_journal(tmp_path: Path) -> None:
    store = Store.make(tmp_path)
    with store.journal(RUN_ID), pytest.raises(CellbenchError, match="another command is measuring"):
        Journal(tmp_path / "journal" / f"{RUN_ID}.arrows")


def test_damage_that_looks_like_a_type_which_arrow_lacks_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, [make_sample()])

    monkeypatch.setattr("harness.store.parquet.FORMAT", SimpleNamespace(make_fragment=lambda *_: Torn()))
    warn_once.cache_clear()
    with pytest.warns(StoreWarning, match="cannot be read as Parquet"):
        assert rows(store) == []


class Torn:
    """A fragment whose damage reads as what Arrow cannot do: `scripts/fuzz.py --seed 5 --kind parquet --only 42`."""

    def ensure_complete_metadata(self) -> None:
        raise pa.ArrowNotImplementedError("Integers with more than 64 bits not implemented")


def test_results_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, [make_sample()])
    newer = schema.ARROW.with_metadata({"cellbench.schema_version": str(schema.VERSION + 1)})
    pq.write_table(pa.Table.from_pylist([], schema=newer), tmp_path / "samples" / "newer.parquet")
    with pytest.raises(CellbenchError, match="update cellbench"):
        store.dataset()


def test_older_files_without_a_column_read_as_null(tmp_path: Path) -> None:
    store = make_store(tmp_path, [make_sample(sync="none")])
    [file] = (tmp_path / "samples").rglob("*.parquet")
    pq.write_table(pq.read_table(file).drop_columns(["sync"]), file)
    assert rows(store)[0]["sync"] is None


def test_run_ids_sort_by_time_and_differ() -> None:
    assert new_run_id(0) < new_run_id(1e9) < new_run_id(2e9)
    assert new_run_id(0) != new_run_id(0)


# ------------------------------------------------------------------ merging


def content(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.parquet")}


def test_another_machines_runs_are_taken_in_and_the_same_ones_again_are_no_harm(tmp_path: Path) -> None:
    desk = make_store(tmp_path / "desk", [make_sample(node="desk")])
    twice = [make_sample(node="mac", run_id=run_id) for run_id in (RUN_ID, "20260203T000000Z-ffffff")]
    mac = make_store(tmp_path / "mac", twice)
    assert desk.merge(mac) == (2, 0)
    assert desk.merge(mac) == (0, 2)
    assert sorted(row["node"] for row in rows(desk)) == ["desk", "mac", "mac"]
    assert content(tmp_path / "mac").items() <= content(tmp_path / "desk").items()


@pytest.mark.parametrize("renamed", [False, True])
def test_other_samples_of_the_same_run_and_node_are_refused_whole(tmp_path: Path, renamed: bool) -> None:
    here = make_store(tmp_path / "here", [make_sample(elapsed_s=1.0)])
    there = make_store(tmp_path / "there", [make_sample(elapsed_s=2.0), make_sample(node="another")])
    if renamed:
        [file] = [p for p in (tmp_path / "there").rglob("*.parquet") if "desk" in p.name]
        file.rename(file.with_name("zz.parquet"))
    before = content(tmp_path / "here")
    with pytest.raises(CellbenchError, match="nothing was merged"):
        here.merge(there)
    assert content(tmp_path / "here") == before


def test_a_store_is_not_merged_with_itself_or_with_a_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = make_store(tmp_path / "here", [make_sample()])
    with pytest.raises(CellbenchError, match="itself"):
        here.merge(Store.at(tmp_path / "here"))
    there = make_store(tmp_path / "there", [make_sample(node="another")])
    monkeypatch.setattr(schema, "VERSION", schema.VERSION - 1)
    with pytest.raises(CellbenchError, match="update cellbench"):
        here.merge(there)


def test_a_journal_of_an_earlier_version_is_recovered(tmp_path: Path) -> None:
    store = Store.make(tmp_path)
    old = pa.schema([field for field in schema.ARROW if field.name != "precision"], metadata=schema.ARROW.metadata)
    journal = tmp_path / "journal" / f"{RUN_ID}.arrows"
    with journal.open("wb") as file, pa.ipc.new_stream(file, old) as writer:
        writer.write_table(schema.table([make_sample()]).select(old.names))
    assert [row["precision"] for row in rows(Store.at(tmp_path))] == [None]
    assert store.root == tmp_path


def test_a_place_where_no_store_can_be_is_known_before_anything_is_written(tmp_path: Path) -> None:
    Store.check(tmp_path / "new" / "results")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="Not a directory"):
        Store.check(tmp_path / "file" / "results")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_large_store_is_read_as_codes_and_row_groups_of_other_runs_are_not_read(tmp_path: Path) -> None:
    made = make_store(tmp_path, [make_sample(run_id=run_id, status=run_id) for run_id in ("a", "b")])
    files = made.opened()
    coded = scan.streamed(files).to_table()
    assert pa.types.is_dictionary(coded.schema.field("status").type)
    assert coded.cast(schema.ARROW) == scan.dataset(files).to_table()
    for column in scan.PRUNED_BY:
        left = [file for file in files if file.fragment.subset(ds.field(column) == "no such").row_groups]
        assert left == []


# ------------------------------------------------------------------ clocks

PAST = ["20260101T000000Z-aaaaaa", "20260201T000000Z-bbbbbb"]
AHEAD = ["20900101T000000Z-cccccc", "99991231T235959Z-dddddd"]


@pytest.fixture
def runs_of_a_clock_that_was_ahead(tmp_path: Path) -> Path:
    warn_once.cache_clear()
    samples = [make_sample(run_id=run_id, elapsed_s=1.0 + i) for i, run_id in enumerate([*PAST, *AHEAD[:1]])]
    make_store(tmp_path, samples)
    return tmp_path


@pytest.mark.parametrize("ahead", [[], AHEAD[:1], AHEAD], ids=len)
def test_runs_in_order_without_those_of_the_future(ahead: list[str]) -> None:
    warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as output:
        warnings.simplefilter("always")
        for _ in range(2):
            assert past_runs([*ahead, *reversed(PAST), "a-test"]) == [*PAST, "a-test"]
    assert [str(each.message).split()[1] for each in output] == ahead
    assert all("samples/month=" in str(each.message) for each in output)


def test_where_every_run_is_of_the_future_this_clock_is_wrong() -> None:
    assert past_runs(reversed(PAST), now_s=0.0) == PAST
    begin_s = datetime(2026, 2, 1, tzinfo=UTC).timestamp()
    assert past_runs(PAST, begin_s - store.AHEAD_S + 2) == PAST
    with pytest.warns(StoreWarning, match=PAST[1]):
        warn_once.cache_clear()
        assert past_runs(PAST, begin_s - store.AHEAD_S - 2) == PAST[:1]


LATEST: dict[str, Callable[[Path], str]] = {
    "show": lambda root: query.which_run(query.Session(Store.at(root)), None),
    "of_run": lambda root: query.Session.of_run(Store.at(root), None)[1],
    "select": lambda root: selection.select(root, "latest").runs[0],
    "node": lambda root: selection.select(root, "desk").runs[0],
    "tag": lambda root: selection.run(query.Session(Store.at(root)), "latest"),
    "alarms": lambda root: alarms.look(query.Session(Store.at(root)), []).run_id,
    "report": lambda root: scope.resolve(query.Session(Store.at(root))).runs[0],
}


@pytest.mark.parametrize("name", LATEST)
def test_the_latest_run_is_none_of_the_future(runs_of_a_clock_that_was_ahead: Path, name: str) -> None:
    with pytest.warns(StoreWarning, match=f"run {AHEAD[0]} is dated in the future"):
        assert LATEST[name](runs_of_a_clock_that_was_ahead) == PAST[1]


def test_a_run_of_the_future_can_be_named(runs_of_a_clock_that_was_ahead: Path) -> None:
    for word in (AHEAD[0], AHEAD[0][:4]):
        assert selection.select(runs_of_a_clock_that_was_ahead, word).runs == (AHEAD[0],)
    assert query.which_run(query.Session(Store.at(runs_of_a_clock_that_was_ahead)), AHEAD[0]) == AHEAD[0]
    with pytest.warns(StoreWarning):
        assert selection.select(runs_of_a_clock_that_was_ahead, "previous").runs == (PAST[0],)


def test_the_run_to_go_on_with_is_none_of_the_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warn_once.cache_clear()
    (tmp_path / "runs").mkdir()
    for name in (*PAST, *AHEAD, f"._{AHEAD[1]}"):
        (tmp_path / "runs" / f"{name}.json").touch()
    monkeypatch.setattr(resume, "read", lambda _store, _run_id: SimpleNamespace(command="run"))
    with pytest.warns(StoreWarning):
        assert resume.latest(Store(tmp_path)) == PAST[1]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.filterwarnings("ignore")
def test_no_turned_bit_is_read_as_another_value(seed: int, tmp_path: Path) -> None:
    """Pages have checksums, and a seal holds that of the footer: names of columns, types, bounds and offsets."""
    make_store(tmp_path, [make_sample(repetition=n, elapsed_s=1 + n / 7) for n in range(3)])
    before = Store.at(tmp_path).table()
    [file] = tmp_path.rglob("*.parquet")
    content, dice, n_left_out = file.read_bytes(), random.Random(seed), 0
    for _ in range(60):
        damaged = bytearray(content)
        damaged[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        file.write_bytes(damaged)
        os.utime(file, (1e9, 1e9))  # not lately, as if it were being copied
        after = Store.at(tmp_path).table()
        assert after.num_rows == 0 or after.equals(before)
        n_left_out += after.num_rows == 0
    assert n_left_out > 30


def test_a_file_without_a_seal_is_read(tmp_path: Path) -> None:
    make_store(tmp_path, [make_sample()])
    [file] = tmp_path.rglob("*.parquet")
    content = file.read_bytes()
    begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert content[begin - 8 : begin - 4] == parquet.SEAL
    file.write_bytes(content[: begin - 8] + content[begin:])
    assert Store.at(tmp_path).table().num_rows == 1


def test_a_large_footer_is_sealed_as_well(tmp_path: Path) -> None:
    rows = schema.table([make_sample(repetition=n) for n in range(40)])
    file = io.BytesIO()
    parquet.encode(file, rows, row_group=1)
    (tmp_path / "samples").mkdir()
    path = tmp_path / "samples/many.parquet"
    content = bytearray(file.getvalue())
    path.write_bytes(content)
    assert int.from_bytes(content[-8:-4], "little") > parquet.TAIL_BYTES
    assert Store.at(tmp_path).table().num_rows == 40
    content[-1000] ^= 1
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    with pytest.warns(StoreWarning, match="damaged"):
        assert Store.at(tmp_path).table().num_rows == 0
