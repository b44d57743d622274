"""What a sample must and may hold, role by role."""

from __future__ import annotations

from typing import Any

import pytest

from harness import schema
from harness.schema import SAMPLES, Column, Role, Status
from tests.conftest import make_sample

VALUES = {schema.TEXT: "x", schema.INTEGER: 1, schema.REAL: 1.0, schema.FLAG: True, schema.INSTANT: 0}
COLUMNS = {column.name: column for column in SAMPLES}


def a_value(column: Column) -> Any:
    return VALUES[column.type]


def least(role: Role, status: Status = Status.OK) -> dict[str, Any]:
    """No more than a row of this role must have."""
    needed = [c for c in SAMPLES if c.always or (status == Status.OK and role in c.when_ok)]
    return {c.name: a_value(c) for c in needed} | {"role": role, "status": status}


@pytest.mark.parametrize("role", Role)
def test_a_row_needs_what_its_role_needs(role: Role) -> None:
    row = least(role)
    schema.check(schema.sample(**row))
    for name in row.keys() - {"role", "status", "case_id", "series_key"}:
        for lacking in ({k: v for k, v in row.items() if k != name}, row | {name: None}):
            with pytest.raises(KeyError, match=name):
                schema.sample(**lacking)


@pytest.mark.parametrize("role", Role)
def test_a_row_may_hold_what_its_role_may(role: Role) -> None:
    row = least(role)
    for name, column in COLUMNS.items():
        if role in column.roles:
            schema.sample(**row | {name: row.get(name, a_value(column))})
            continue
        with pytest.raises(KeyError, match=name):
            schema.sample(**row | {name: a_value(column)})
        schema.sample(**row | {name: None})  # what is null says nothing


def test_every_column_is_somebodys() -> None:
    assert all(column.roles for column in SAMPLES)
    assert all(column.when_ok <= column.roles for column in SAMPLES)
    assert len(COLUMNS) == len(SAMPLES)


@pytest.mark.parametrize("row", [{"role": "nobody"}, {"role": "timed", "elapsed_ms": 3}])
def test_what_nobody_knows_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match=r"nobody|elapsed_ms"):
        schema.sample(**make_sample() | row)


def test_what_failed_needs_no_time() -> None:
    schema.sample(**least(Role.TIMED, Status.CRASH))
    with pytest.raises(KeyError, match="elapsed_s"):
        schema.sample(**least(Role.TIMED, Status.CRASH) | {"status": Status.OK})


def test_a_table_is_checked_as_well() -> None:
    with pytest.raises(KeyError, match="energy_j"):
        schema.table([make_sample() | {"energy_j": 3.0}])


def test_names_depend_on_what_is_the_same_and_on_nothing_else() -> None:
    one = make_sample()
    same = make_sample(profile="other", repetition=3, numpy_version="9", batch_size=8.0, started_at=one["started_at"])
    assert (one["case_id"], one["series_key"]) == (same["case_id"], same["series_key"])
    newer = make_sample(torch_version="9")
    assert (newer["case_id"] != one["case_id"], newer["series_key"]) == (True, one["series_key"])
