"""Files of every past version are read forever, and columns are only ever added."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness import schema
from harness.query import VIEWS, Session
from harness.store import Store
from tests import golden

VERSIONS = range(1, schema.VERSION + 1)


def test_the_current_version_has_a_golden_file() -> None:
    assert {path.name for path in golden.FOLDER.glob("v*.parquet")} == {f"v{version}.parquet" for version in VERSIONS}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_past_version_is_read_as_it_was_written(tmp_path: Path, version: int) -> None:
    (tmp_path / "samples").mkdir()
    shutil.copy(golden.FOLDER / f"v{version}.parquet", tmp_path / "samples")
    store = Store.at(tmp_path)
    found = store.dataset().to_table().to_pylist()
    answer = [{name: golden.plain(value) for name, value in row.items() if value is not None} for row in found]
    assert answer == json.loads((golden.FOLDER / f"v{version}.json").read_text())
    session = Session(store)
    for view in ("samples", "timed", "medians", "stages", "runs"):
        assert view == "samples" or view in VIEWS
        session.table(f"SELECT * FROM {view}")
    assert session.table("SELECT count(*) AS n FROM timed")["n"].to_pylist()[0] >= 1


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_an_engine_when_it_is_asked(tmp_path: Path, version: int) -> None:
    (tmp_path / "samples").mkdir()
    shutil.copy(golden.FOLDER / f"v{version}.parquet", tmp_path / "samples")
    sql = "SELECT DISTINCT engine, model, dtype FROM samples"
    found = Session(Store.at(tmp_path)).table(sql).to_pylist()
    engine = "cellpose3" if version == 1 else "simulated"  # as their workloads say
    assert found == [{"engine": engine, "model": "cyto3", "dtype": "float32"}]


@pytest.mark.parametrize("version", VERSIONS)
def test_columns_are_only_added(version: int) -> None:
    then = pq.read_schema(golden.FOLDER / f"v{version}.parquet")
    assert schema.version_of(then) == version
    for field in then:
        assert schema.ARROW.field(field.name).type == field.type


def test_all_versions_lie_in_one_store(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    for version in VERSIONS:
        shutil.copy(golden.FOLDER / f"v{version}.parquet", tmp_path / "samples")
    store = Store.at(tmp_path)
    before = sorted(map(str, store.dataset().to_table().to_pylist()))
    [done] = store.compact()
    assert done.n_files == len(VERSIONS)
    assert sorted(map(str, store.dataset().to_table().to_pylist())) == before
