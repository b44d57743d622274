"""An anonymous copy of results holds nothing that tells whose they are, and still all that can be measured."""

from __future__ import annotations

import getpass
import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import CellbenchError
from harness.machine import facts, probe
from harness.query import Session
from harness.schema import SAMPLES
from harness.store import Store, anonymous
from tests.conftest import make_sample, make_store

# A private word in every place where one may stand.
HOST, USER, HOME, IMAGE = "kolibri7.uni.example", "alice", "/home/alice", "patient-4711_liver.tif"
SECRETS = {
    "node": HOST, "machine_id": "feedfacecafe0123", "image": IMAGE, "profile": "alice-thesis",
    "error_message": f"cannot open {HOME}/{IMAGE}", "os": f"Debian 12, kernel 6.1-{HOST.partition('.')[0]}",
    "device_name": f"AMD EPYC of {USER}", "cpu_model": f"AMD EPYC {HOME}/x",
}  # fmt: skip
WORDS = (HOST, HOST.partition(".")[0], USER, HOME, IMAGE, "4711", "feedfacecafe0123", "thesis", "03:04", "T0304")


def environment() -> dict[str, Any]:
    """Every fact with something private in it, where it is a text or private as such."""
    answer = {**probe.environment(), "gpu_uuid": "GPU-0123-4567", "booted_at": "2026-01-01T23:59:58+00:00"}
    answer |= {"thread_settings": f"OMP_NUM_THREADS=2 KMP_SETTINGS={HOME}/omp KMP_USER={USER}"}
    texts = {each.name: f"{answer.get(each.name) or 'x'} {HOST} {HOME}/.x" for each in facts.FACTS if each.type is str}
    return answer | texts


@pytest.fixture
def store(tmp_path: Path) -> Store:
    answer = json.dumps(environment())
    begins = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    rows = []
    for hour, run_id in enumerate(("20260102T030405Z-aaaaaa", "20260102T040405Z-bbbbbb", "20260103T030405Z-cccccc")):
        at = begins + timedelta(hours=hour if hour < 2 else 24)
        common = {**SECRETS, "run_id": run_id, "image_is_synthetic": False}
        rows += [make_sample(**common, repetition=i, started_at=at + timedelta(seconds=i)) for i in range(3)]
        cold = {"role": "cold", "phase": "model_load", "environment": answer, "started_at": at}
        rows += [make_sample(**common, **cold), make_sample(**{**common, "node": "b"}, started_at=at)]
    return make_store(tmp_path / "results", rows)


def everything(folder: Path) -> str:
    """All that a reader finds: names of files, and every cell of every table as text."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    return json.dumps([names, Store.at(folder).table().to_pylist()], default=str, ensure_ascii=False)


def raw(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_nothing_private_is_left(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", USER)
    assert all(word in everything(Path(store.root)) for word in WORDS)
    done = CliRunner().invoke(app, ["anonymise", "--out", str(store.root), "--to", str(tmp_path / "shared")])
    assert done.exit_code == 0, done.output
    found = everything(tmp_path / "shared")
    answer = environment()
    private = [str(answer[each.name]) for each in facts.FACTS if each.private]
    assert len(private) >= 3
    own = {name for name in (socket.gethostname(), getpass.getuser(), str(Path.home())) if len(name) > 3}
    for word in (*WORDS, *private, *own):
        assert word.lower() not in found.lower(), word
        assert word.encode() not in raw(tmp_path / "shared")
    assert {path.name for path in (tmp_path / "shared").iterdir()} <= {"samples", "journal"}


def test_every_text_column_is_one_that_somebody_has_thought_of() -> None:
    texts = {column.name for column in SAMPLES if column.type == pa.string()}
    parts = (anonymous.KEPT, anonymous.SEARCHED, anonymous.RENAMED, anonymous.DROPPED)
    assert texts == set().union(*parts)
    assert sum(map(len, parts)) == len(texts)  # each is in one part


def test_what_was_measured_stays(store: Store, tmp_path: Path) -> None:
    assert anonymous.copy(store, tmp_path / "shared") == (3, 15)
    before, after = Session(store), Session(Store.at(tmp_path / "shared"))
    for sql in (
        "SELECT median_s, n, n_cells, crop, variant FROM medians ORDER BY ALL",
        "SELECT elapsed_s, image_sha256, weights_sha256, cpu_quota_cores FROM samples ORDER BY ALL",
        "SELECT count(DISTINCT run_id), count(DISTINCT node), count(DISTINCT case_id), count(DISTINCT series_key), "
        "count(DISTINCT machine_id), count(DISTINCT image) FROM samples",
        "SELECT date_diff('second', min(started_at), max(started_at)) AS s FROM samples GROUP BY run_id ORDER BY s",
        "SELECT CAST(started_at AS DATE), count(*) FROM samples GROUP BY ALL ORDER BY ALL",
        "SELECT cpu_logical_cores, ram_bytes FROM environments ORDER BY ALL",
    ):
        assert after.table(sql).to_pylist() == before.table(sql).to_pylist(), sql
    order = "SELECT min(started_at) FROM samples GROUP BY run_id ORDER BY run_id"
    starts = [next(iter(row.values())) for row in after.table(order).to_pylist()]
    assert starts == sorted(starts)


def test_two_copies_have_nothing_in_common_to_tell_a_machine_by(store: Store, tmp_path: Path) -> None:
    names = []
    for each in ("a", "b"):
        anonymous.copy(store, tmp_path / each)
        table = Store.at(tmp_path / each).table()
        names.append({*table["node"].to_pylist(), *table["machine_id"].to_pylist(), *table["series_key"].to_pylist()})
    assert not names[0] & names[1]


def test_one_run_and_what_is_refused(store: Store, tmp_path: Path) -> None:
    assert anonymous.copy(store, tmp_path / "one", "20260103T030405Z-cccccc") == (1, 5)
    with pytest.raises(CellbenchError, match="not empty"):
        anonymous.copy(store, tmp_path / "one")
    with pytest.raises(CellbenchError, match="no run"):
        anonymous.copy(store, tmp_path / "two", "20260103T030405Z-dddddd")
    assert not (tmp_path / "two").exists()


def test_no_page_tells_people_to_edit_parquet() -> None:
    docs = Path(__file__).parent.parent / "docs"
    for page in docs.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert "`sed` it out" not in text
