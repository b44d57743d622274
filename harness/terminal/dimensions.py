"""The columns that distinguish the rows of a table are shown; columns with one value are printed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from harness.schema import Row, identity
from harness.terminal.table_printer import stderr

ALWAYS = ("node", "device", "crop")
# Columns worth printing where all rows have the same value; the others are hashes, sizes and hardware.
STATED = ("model", "engine", "engine_version", "weights", "image", "protocol", "variant", "dtype", "torch_version")


def dimensions_shown(rows: Iterable[Row], about: Sequence[str], always: Sequence[str] = ALWAYS) -> tuple[str, ...]:
    """The columns that a table needs; about: those that may distinguish its rows."""
    return identity.distinguishing(rows, [name for name in always if name in about], identity.without(about, "image"))


def common_text(rows: Sequence[Row], columns: Iterable[str]) -> str:
    """The common values of all rows, for above a table that leaves these columns out: 'in all rows: crop 448'."""
    stated = [name for name in STATED if name in columns and rows and rows[0].get(name) is not None]
    texts = [
        f"{identity.word(name)} {identity.short(rows[0][name])}"
        for name in stated
        if not identity.differing(rows, [name])
    ]
    return f"in all rows: {', '.join(texts)}" if texts else ""


def without_constants(table: pa.Table, about: Sequence[str]) -> pa.Table:
    """The table for people, without columns of one value; those are printed on stderr."""
    rows = table.select(about).to_pylist()
    kept = dimensions_shown(rows, about)
    if text := common_text(rows, identity.without(about, kept)):
        stderr().print(text, markup=False)
    return table.select([name for name in table.column_names if name not in about or name in kept])
