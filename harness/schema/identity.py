"""What makes two rows the same: the one list of it, for Python and for SQL.

Each part names columns. CASE gets one median within a run; SERIES is the same over time; WORK must agree before one
time may be divided by another. What may differ on purpose is taken away by name: without(CASE, DEVICE).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
K = TypeVar("K")

# What is done: anything else here is another result, or another question.
SIZE = ("crop", "height_px", "width_px")
WORK = (
    "source", "workload", "engine", "model", "weights", "weights_sha256", "size_model_sha256", "image_sha256", *SIZE,
    "diameter_asked_px", "result_variant", "protocol", "protocol_version",
)  # fmt: skip
# How it is done: masks may differ by rounding.
EXECUTION = ("variant", "batch_size", "dtype", "torch_threads")
# Where it is done. A machine is an id and what it offers, not a host name.
MACHINE = ("machine_id", "instruction_set", "cpu_model", "n_cores", "cpu_quota_cores", "arch")
DEVICE = ("backend", "device", "device_name")
# With what: it explains a change over time, but two of them within one run are two cases.
VERSIONS = ("engine_version", "torch_version", "cellpose_version")

SERIES = (*WORK, *EXECUTION, *MACHINE, *DEVICE)
CASE = ("node", *SERIES, *VERSIONS)
LINE = tuple(column for column in SERIES if column not in SIZE)  # the sizes of one such belong together in a figure
# What of CASE a plan asks for: it is known of what failed or was never begun, too.
PLACE = ("node", "backend", "device")
REQUEST = (*WORK, "variant", "dtype")

# What stands for a column where it is null: the name that people gave.
NAMED = {"machine_id": "node", "image_sha256": "image"}

# How people call what a column tells by hash, number or model.
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
    """These columns less others, which are names or parts."""
    left_out = {name for other in others for name in ([other] if isinstance(other, str) else other)}
    return tuple(column for column in columns if column not in left_out)


def value(row: Mapping[str, Any], column: str) -> Any:
    """What a row holds in a column of the identity, or the name that stands for it."""
    found = row.get(column)
    return row.get(NAMED[column]) if found is None and column in NAMED else found


def values(row: Mapping[str, Any], columns: Iterable[str]) -> tuple[Any, ...]:
    """What a row holds in these columns; equal for rows that are the same in them."""
    return tuple(value(row, column) for column in columns)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by their key; groups, and the items of each, in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def key(row: Mapping[str, Any], columns: Iterable[str]) -> str:
    """16 hex digits for what a row holds in these columns: equal rows get equal ones on every machine."""
    text = json.dumps([[column, _number(value(row, column))] for column in columns])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _number(found: Any) -> Any:
    """0 and 0.0 are the same."""
    return float(found) if isinstance(found, int) else found


def differing(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> tuple[str, ...]:
    """Those of these columns in which the rows are not all the same."""
    rows = list(rows)
    return tuple(column for column in columns if len({value(row, column) for row in rows}) > 1)


def distinguishing(
    rows: Iterable[Mapping[str, Any]], always: Sequence[str] = (), columns: Sequence[str] = CASE
) -> tuple[str, ...]:
    """The columns that a table of these rows needs: some always, and what differs between the rows in its columns.

    A column stays out where what people call it differs just as it does: a hash where the name of the image does.
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
    """A column's name as people read it."""
    return WORDS.get(column, column.removesuffix("_px").replace("_", " "))


def short(found: Any) -> str:
    """A value as people read it: hashes by their beginning."""
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
    """These columns as GROUP BY and PARTITION BY take them."""
    return ", ".join(spell(column) for column in columns)
