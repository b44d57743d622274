"""Rows of older schema versions in today's form: the effective settings, and the names of their cases and series.

A row's stored series_key depends on every column that the new names depend on. So it is enough to convert each of the
few different keys, and no file is rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from harness import schema
from harness.errors import CellbenchError
from harness.schema import Role, identity, versions
from harness.store import Opened

# The columns that identify a row, and the columns that it is read as.
FOUND_BY = (*identity.VERSIONS, "image")  # in addition to the old series_key
READ = ("engine", "model", "dtype", "variant", "result_variant", "batch_size", "diameter_asked_px", "torch_threads")
NAMES = ("case_id", "series_key")
IS_OLD = f"schema_version < {versions.ENGINES_SINCE}"
_OTHERS = identity.without(identity.CASE, FOUND_BY, "diameter_asked_px")
# The mask pass uses another diameter than its case, whose name it keeps: there the smallest is the case's own.
DISTINCT = f"""
    SELECT series_key AS old_series_key, {", ".join(FOUND_BY)}, min(diameter_asked_px) AS diameter_asked_px,
           {", ".join(f"any_value({name}) AS {name}" for name in _OTHERS)}
    FROM stored_samples WHERE {IS_OLD} GROUP BY series_key, {", ".join(FOUND_BY)}"""
_REPLACED = {
    **{name: f"CASE WHEN o.old_series_key IS NULL THEN s.{name} ELSE o.{name} END" for name in (*READ, *NAMES)},
    "diameter_asked_px": f"""CASE WHEN o.old_series_key IS NULL OR s.role = '{Role.MASKS}' AND s.diameter_asked_px > 0
                                  THEN s.diameter_asked_px ELSE o.diameter_asked_px END""",
}
SAMPLES = f"""
    SELECT s.* REPLACE ({", ".join(f"{sql} AS {name}" for name, sql in _REPLACED.items())})
    FROM stored_samples AS s LEFT JOIN older AS o
         ON s.{IS_OLD} AND s.series_key = o.old_series_key
         AND {" AND ".join(f"s.{name} IS NOT DISTINCT FROM o.{name}" for name in FOUND_BY)}"""


def are_in(files: Iterable[Opened]) -> bool:
    """Whether any of these files may contain such rows, by its footer."""
    bounds = (each for file in files for each in file.bounds("schema_version"))
    return any(each is None or each[0] < versions.ENGINES_SINCE for each in bounds)


def table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The values that rows of DISTINCT are read as: old_series_key and FOUND_BY, then READ and NAMES."""
    fields = [pa.field("old_series_key", pa.string())]
    fields += [schema.ARROW.field(name).remove_metadata() for name in (*FOUND_BY, *READ, *NAMES)]
    return pa.Table.from_pylist([_read(row) for row in rows], schema=pa.schema(fields))


def _read(row: Mapping[str, Any]) -> dict[str, Any]:
    now = {**row, **versions.defaults(row), **_in_force(row["variant"])}
    names = {"case_id": identity.key(now, identity.CASE), "series_key": identity.key(now, identity.SERIES)}
    return now | names


def canonical(variant: str) -> str:
    """The canonical name of a variant; a name that is unknown to this version stays."""
    return str(_in_force(variant)["variant"])


def _in_force(variant: str | None) -> dict[str, Any]:
    """The columns that a variant set; all were cellpose 3's. A variant unknown to this version is other work."""
    if variant is None:
        return {}
    from harness.engines import registry  # stores without such rows need not wait for it

    engine = registry.engine(versions.BEFORE_ENGINES["engine"])
    try:
        known = engine.variant(variant)
    except CellbenchError:
        return {"variant": variant, "result_variant": variant}
    return {
        "variant": str(known), "result_variant": registry.result_variant(engine.name, variant),
        **engine.in_force(known),
    }  # fmt: skip
