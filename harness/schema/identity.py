"""The identity of rows: the only list of the columns that make two rows the same, for Python and for SQL.

Each part names columns. CASE has one median within a run; SERIES is the same over time; WORK must agree before one
time may be divided by another. Columns that may differ on purpose are removed by name: without(CASE, DEVICE).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
K = TypeVar("K")

# The work: any difference here gives another result, or answers another question.
SIZE = ("crop", "height_px", "width_px")
WORK = (
    "source", "workload", "engine", "model", "weights", "weights_sha256", "size_model_sha256", "image_sha256", *SIZE,
    "diameter_asked_px", "result_variant", "protocol", "protocol_version",
)  # fmt: skip
# The execution: masks may differ by rounding.
EXECUTION = ("variant", "batch_size", "dtype", "torch_threads")
# The place. A machine is an id and its hardware, not a host name.
MACHINE = ("machine_id", "instruction_set", "cpu_model", "n_cores", "cpu_quota_cores", "arch")
DEVICE = ("backend", "device", "device_name")
# The software: it explains a change over time, but two versions within one run are two cases.
VERSIONS = ("engine_version", "torch_version", "cellpose_version")

SERIES = (*WORK, *EXECUTION, *MACHINE, *DEVICE)
CASE = ("node", *SERIES, *VERSIONS)
LINE = tuple(column for column in SERIES if column not in SIZE)  # its sizes belong together in a figure
# The part of CASE that a plan sets: it is known of failed and missing cases, too.
PLACE = ("node", "backend", "device")
REQUEST = (*WORK, "variant", "dtype")

# The replacement of a column where it is null: the name that people gave.
NAMED = {"machine_id": "node", "image_sha256": "image"}

# The words for columns that contain a hash, number or model.
LABELS = {
    **dict.fromkeys(MACHINE, ("node",)),
    "backend": ("device",),
    "device_name": ("node", "device"),
    "height_px": ("crop",),
    "width_px": ("crop",),
    "result_variant": ("variant",),
    **dict.fromkeys(("diameter_asked_px", "batch_size", "dtype"), ("model", "variant")),
    "torch_threads": ("node", "variant"),
    "engine": ("model",),
    "workload": ("engine",),
    "weights_sha256": ("model", "weights"),
    "size_model_sha256": ("model", "weights"),
    "image_sha256": ("image",),
    **dict.fromkeys(("engine_version", "cellpose_version"), ("model",)),
}
WORDS = {
    "weights_sha256": "weights file", "size_model_sha256": "size model file", "image_sha256": "image pixels",
    "machine_id": "machine", "cpu_model": "processor", "n_cores": "cores", "cpu_quota_cores": "processor quota",
    "torch_threads": "threads", "torch_version": "torch", "cellpose_version": "cellpose", "device_name": "device model",
    "diameter_asked_px": "diameter", "result_variant": "options that change the result",
}  # fmt: skip


def without(columns: Iterable[str], *others: str | Collection[str]) -> tuple[str, ...]:
    """These columns without others, which are names or parts."""
    left_out = {name for other in others for name in ([other] if isinstance(other, str) else other)}
    return tuple(column for column in columns if column not in left_out)


def value(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column of the identity, or of the name that replaces it; None for NaN, which equals nothing."""
    found = row.get(column)
    if found is None or found != found:  # noqa: PLR0124  (NaN, quickly: figures ask a million times)
        return row.get(NAMED[column]) if column in NAMED else None
    return found


def values(row: Mapping[str, Any], columns: Iterable[str]) -> tuple[Any, ...]:
    """A row's values in these columns; equal for rows that are the same in them."""
    return tuple(value(row, column) for column in columns)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by their key; groups, and the items of each, in their order."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def key(row: Mapping[str, Any], columns: Iterable[str]) -> str:
    """16 hex digits for a row's values in these columns: equal rows have equal keys on every machine."""
    text = json.dumps([[column, _number(value(row, column))] for column in columns])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _number(found: Any) -> Any:
    """0 and 0.0 are the same."""
    return float(found) if isinstance(found, int) else found


def differing(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> tuple[str, ...]:
    """The columns among these in which the rows differ."""
    rows = list(rows)
    return tuple(column for column in columns if len({value(row, column) for row in rows}) > 1)


def distinguishing(
    rows: Iterable[Mapping[str, Any]], always: Sequence[str] = (), columns: Sequence[str] = CASE
) -> tuple[str, ...]:
    """The columns that a table of these rows needs: some always, and those in which the rows differ.

    A column is left out where its name for people differs in the same way: a hash where the name of the image does.
    """
    rows = list(rows)
    found = list(always)
    for column in differing(rows, without(columns, always)):
        names = LABELS.get(column, ())
        groups = {values(row, names) for row in rows}
        determined = len({(*values(row, names), value(row, column)) for row in rows}) == len(groups)
        found += differing(rows, without(names, found)) if names and determined else [column]
    return tuple(dict.fromkeys(found))


def word(column: str) -> str:
    """A column's name for people."""
    return WORDS.get(column, column.removesuffix("_px").replace("_", " "))


def short(found: Any) -> str:
    """A value for people: hashes by their beginning."""
    text = "none" if found is None else f"{found:g}" if isinstance(found, float) else str(found)
    return text[:8] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


# ---------------------------------------------------------------- the same in SQL


def sql(column: str, table: str = "") -> str:
    """value() in SQL."""
    at = f"{table}." if table else ""
    return f"coalesce({at}{column}, {at}{NAMED[column]})" if column in NAMED else f"{at}{column}"


def same(a: str, b: str, columns: Iterable[str]) -> str:
    """The condition that a row of table a and one of table b are the same in these columns."""
    return " AND ".join(f"{sql(column, a)} IS NOT DISTINCT FROM {sql(column, b)}" for column in columns)


def listed(columns: Iterable[str], spell: Callable[[str], str] = sql) -> str:
    """These columns for GROUP BY and PARTITION BY."""
    return ", ".join(spell(column) for column in columns)
