import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import schema
from harness.errors import CellbenchError
from harness.store import Journal, Store, new_run_id, read_journal
from tests.conftest import REPOSITORY, RUN_ID, make_sample, make_store


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
        "        journal.append(make_sample(repetition=i))\n"
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
        journal.append(make_sample(repetition=i))
    whole = journal.path.stat().st_size
    journal.append(make_sample(repetition=3))
    torn = (tmp_path / "x.arrows").read_bytes()
    for cut in (whole + 1, whole + 100, len(torn) - 1):
        (tmp_path / "torn.arrows").write_bytes(torn[:cut])
        assert read_journal(tmp_path / "torn.arrows")["repetition"].to_pylist() == [0, 1, 2]
    journal.close()


def test_a_running_run_is_left_alone(tmp_path: Path) -> None:
    store = Store.make(tmp_path)
    with store.journal(RUN_ID) as journal:
        journal.append(make_sample())
        assert rows(Store.at(tmp_path)) == []
        assert journal.path.exists()
    assert len(rows(Store.at(tmp_path))) == 1


def test_what_was_measured_is_kept_when_the_run_fails(tmp_path: Path) -> None:
    store = Store.make(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.journal(RUN_ID) as journal:
        journal.append(make_sample())
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
    (folder / "foreign.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(CellbenchError, match="cannot be read as Parquet"):
        store.dataset()


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
