"""Rows of older schema versions: read as what was in force, under the names of today, and never written anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import schema
from harness.judge import alarms, annotations, history
from harness.query import Session, older
from harness.query import session as session_module
from harness.schema import identity
from harness.store import Store
from tests import nights
from tests.conftest import REPOSITORY, make_sample

OLD = {"schema_version": 3, "workload": "cellpose"} | dict.fromkeys(
    ("engine", "engine_version", "dtype", "result_variant", "machine_id", "instruction_set")
)


def old(**columns: Any) -> schema.Sample:
    return make_sample(**OLD | columns)


def read(folder: Path, *samples: schema.Sample) -> list[dict[str, Any]]:
    return Session(nights.store(folder, samples)).table("SELECT * FROM samples ORDER BY repetition").to_pylist()


@pytest.mark.parametrize(
    ("variant", "in_force"),
    [
        ("stock", {"variant": "stock", "batch_size": 8, "torch_threads": 8, "diameter_asked_px": 0.0,
                   "dtype": "float32", "result_variant": "stock"}),
        ("batch=016", {"variant": "batch=16", "batch_size": 16, "result_variant": "stock"}),
        ("diameter=25+batch=16+threads=1", {"variant": "batch=16+threads=1+diameter=25", "batch_size": 16,
                                            "torch_threads": 1, "diameter_asked_px": 25.0,
                                            "result_variant": "diameter=25"}),
        ("bf16+lossless", {"variant": "lossless+bf16", "dtype": "bfloat16", "result_variant": "stock"}),
        ("a variant of tomorrow", {"variant": "a variant of tomorrow", "result_variant": "a variant of tomorrow"}),
        (None, {"variant": None, "batch_size": 8, "engine": "cellpose3"}),
    ],
)  # fmt: skip
def test_a_variant_is_read_as_it_was_in_force(tmp_path: Path, variant: str | None, in_force: dict[str, Any]) -> None:
    [row] = read(tmp_path, old(variant=variant))
    assert row.items() >= (in_force | {"engine": "cellpose3", "model": "cyto3"}).items()


def test_the_mask_pass_keeps_the_diameter_that_it_asked_for_and_its_case(tmp_path: Path) -> None:
    masks = [old(role="masks", variant="diameter=25", repetition=i) for i in range(2)]
    masks[1] |= {"diameter_asked_px": 68.0}
    rows = read(tmp_path, old(variant="diameter=25"), *masks)
    assert [row["diameter_asked_px"] for row in rows] == [25.0, 25.0, 68.0]
    assert len({row["case_id"] for row in rows}) == 1


def test_names_are_those_that_a_row_of_today_gets(tmp_path: Path) -> None:
    [row] = read(tmp_path, old(variant="plain+folded", cpu_quota_cores=None))
    assert row["series_key"] == identity.key(row, identity.SERIES)
    assert row["case_id"] == identity.key(row, identity.CASE)


def test_a_store_without_old_rows_is_read_as_it_is(tmp_path: Path) -> None:
    store = nights.store(tmp_path, [make_sample(variant="plain+folded")])
    assert not older.are_in(store.opened())
    assert Session(store).table("SELECT variant FROM samples")["variant"].to_pylist() == ["plain+folded"]
    assert older.are_in(nights.store(tmp_path / "mixed", [make_sample(), old()]).opened())


def test_a_large_store_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = nights.store(tmp_path, [make_sample(), *(old(variant=name) for name in ("batch=16", "batch=016", "stock"))])
    sql = "SELECT * FROM samples ORDER BY ALL"
    held = Session(store).table(sql)
    monkeypatch.setattr(session_module, "HELD_ROWS", -1)
    streamed = Session(store)
    assert streamed.table(sql).equals(held)
    assert streamed.table("SELECT count(DISTINCT case_id) AS n FROM medians")["n"].to_pylist() == [3]


def test_a_change_that_was_accepted_under_an_old_name_stays_accepted(tmp_path: Path) -> None:
    levels = [1.0] * 8 + [1.3] * 7
    rows = [row for i, level in enumerate(levels) for row in nights.timed(nights.run_id(i), [level], **OLD)]
    store = nights.store(tmp_path, rows)
    stored = rows[0]["series_key"]
    annotations.add(
        tmp_path, [annotations.new("accepted", nights.run_id(8), series_key=stored, metric=history.TIME, why="torch")]
    )
    found = alarms.look(Session(store), annotations.read(tmp_path))
    assert found.alarms == ()
    [times] = [each for each in found.series if each.metric == history.TIME]
    assert times.key != stored
    assert times.accepted.keys() == {nights.run_id(8)}


def test_the_reference_set_has_an_engine_and_is_not_touched() -> None:
    store = Store(REPOSITORY / "results" / "reference")
    assert set(store.table()["engine"].to_pylist()) == {None}
    found = Session(store).table("SELECT DISTINCT engine, model, dtype FROM samples ORDER BY dtype").to_pylist()
    assert {(row["engine"], row["model"]) for row in found} == {("cellpose3", "cyto3")}
    assert [row["dtype"] for row in found] == ["bfloat16", "float16", "float32"]
