"""Rows on stdout or in a file: a table for people; json, csv, md, parquet and arrow for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from harness import files, markdown
from harness.errors import CellbenchError
from harness.terminal.table_printer import TABLE, TEXT_MIN, WIDE, Column, print_columns, stderr

FORMATS = ("parquet", "csv", "json", "arrow", "md")
BINARY = ("parquet", "arrow")
COPIED = ("run_id", "case_id", "series_key", "last_run", "mask_sha256")  # ids: a part of one is of no use
MESSAGES, MESSAGE_MIN = ("error_message", "last_message"), 40  # texts that are the point of a table; their width
OF_MESSAGE = ("status", "node", "device", "crop", "model", "run_id", "role")  # what a reader of a message needs first
ROWS_SHOWN = 500  # of a table by default: its layout needs all rows


def show(
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    form: str,
    limit: int | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Print rows on stdout in one of the forms.

    limit: maximum number of rows (a table has ROWS_SHOWN if None; 0 is all). labels: columns that distinguish the rows.
    """
    most = (ROWS_SHOWN if form in (TABLE, WIDE) else 0) if limit is None else limit
    cut = Cut(batches, most)
    if form in (TABLE, WIDE):
        rows = [
            [_text(value) for value in row]
            for batch in cut
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]
        print_columns(_columns(schema, labels, rows), rows, form)
    else:
        _write(sys.stdout.buffer, schema, cut, form)
        sys.stdout.buffer.flush()
    if cut.more:
        note = f"only the first {most} rows; --limit 0 prints all of them"
        stderr().print(note)


def save(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: str) -> int:
    """Write rows into a file, whole or not at all; returns their number."""
    cut = Cut(batches, 0)
    with files.replacing(path) as file:
        _write(file, schema, cut, form)
    return cut.n_rows


def form_of(path: Path, choice: str | None) -> str:
    """The requested format, or that of the file's name."""
    form = choice or {"pq": "parquet", "feather": "arrow"}.get(path.suffix[1:], path.suffix[1:])
    if form not in FORMATS:
        raise CellbenchError(f"unknown format {form!r}", str(path), f"--format {', '.join(FORMATS)}")
    return form


class Cut:
    """The first rows of a stream, with their number, and whether there are more."""

    def __init__(self, batches: Iterable[pa.RecordBatch], limit: int) -> None:
        self._batches, self._limit = batches, limit
        self.n_rows, self.more = 0, False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            left = self._limit - self.n_rows if self._limit else batch.num_rows
            self.more = batch.num_rows > left
            taken = batch.slice(0, left)
            if taken.num_rows:
                self.n_rows += taken.num_rows
                yield taken
            if self.more:
                return


def _write(file: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: str) -> None:
    if form == "parquet":
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
    elif form == "arrow":
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
    elif form == "csv":
        _write_csv(file, schema, batches)
    elif form == "json":
        _write_json(file, batches)
    else:
        _write_markdown(file, schema, batches)


def _write_csv(file: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    flat = pa.schema([(field.name, _flat_type(field.type)) for field in schema])
    with pyarrow.csv.CSVWriter(file, flat) as writer:
        for batch in batches:
            columns = [
                column if column.type == field.type else _flat(column, field.type)
                for column, field in zip(batch.columns, flat, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=flat))


def _flat_type(found: pa.DataType) -> pa.DataType:
    """The type in a CSV file: lists and structs become JSON, DuckDB's whole sums become numbers."""
    if pa.types.is_nested(found):
        return pa.string()
    return pa.float64() if pa.types.is_decimal(found) and found.scale else found


def _flat(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if wanted != pa.string():
        return column.cast(wanted)
    texts = [None if value is None else json.dumps(_plain(value)) for value in column.to_pylist()]
    return pa.array(texts, pa.string())


def _write_json(file: BinaryIO, batches: Iterable[pa.RecordBatch]) -> None:
    file.write(b"[")
    between = b"\n"
    for batch in batches:
        for row in batch.to_pylist():
            file.write(between + json.dumps(_plain(row), indent=2).encode())
            between = b",\n"
    file.write(b"\n]\n" if between == b",\n" else b"]\n")


def _plain(value: Any) -> Any:
    """A value for JSON: times in ISO 8601, null for a value that is not a number."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _write_markdown(file: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    rows = (
        [markdown.escaped(_text(value)) for value in row]
        for batch in batches
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    numeric = [column for column, field in enumerate(schema) if _is_numeric(field)]
    for line in markdown.table(list(map(markdown.escaped, schema.names)), rows, numeric):
        file.write(f"{line}\n".encode())


def _columns(schema: pa.Schema, labels: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Column]:
    """The columns for a terminal: the message stays, or else the first column and the first real number.

    Empty columns are left out first, then the rightmost.
    """
    n_filled = {name: sum(bool(row[i]) for row in rows) for i, name in enumerate(schema.names)}
    filled = [name for name, n in n_filled.items() if n or not rows]
    messages = [name for name in MESSAGES if 2 * n_filled.get(name, 0) > len(rows)]
    values = [name for name in filled if name not in labels]
    ranked = [*(OF_MESSAGE if messages else ()), *values[:1], *labels, *values[1:], *schema.names]
    order = {name: n for n, name in enumerate(dict.fromkeys(ranked), start=1)}
    reals = [field.name for field in schema if pa.types.is_floating(field.type) and field.name in filled]
    stays = messages or [*schema.names[:1], *reals[:1]]
    return [
        Column(
            field.name, _is_numeric(field), 0 if field.name in stays else order[field.name], field.name in COPIED,
            MESSAGE_MIN if field.name in messages else TEXT_MIN,
        )
        for field in schema
    ]  # fmt: skip


def _is_numeric(field: pa.Field) -> bool:
    return pa.types.is_integer(field.type) or pa.types.is_floating(field.type)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"  # UTC, as stored
    return f"{value:.6g}" if isinstance(value, float) else str(value)
