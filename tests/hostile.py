"""Hostile input: valid files and texts to start from, ways to damage them, and what each reader may do with them.

Shared by the property tests (tests/test_hostile.py) and the long run (scripts/fuzz.py). A reader returns or raises
CellbenchError; whatever else it raises is a defect.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import os
import random
import shutil
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile

from harness import files, images, query, schema, store
from harness.cli import surroundings
from harness.errors import CellbenchError, StoreWarning
from harness.judge import selection
from harness.plan import config
from harness.submissions import checks, collection, form
from tests import submitted
from tests.conftest import RUN_ID, make_sample

INTERESTING = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
TOML_WORDS = (
    "crops", "repeats", "devices", "image", "weights", "trust", "protocols", "passes", "seed", "precision", "[", "]",
    "[[", "{", "}", "=", ",", '"', "'''", "\n", "#", "full", "true", "nan", "-inf", "1e400", "0x", "9" * 20, "\\u0000",
    "1979-05-27T07:32:00Z", '"../../x"', '"~root"', "\x00", "\x7f", "é", "/dev/zero", '"a\\u0000b"', "64",
)  # fmt: skip
SQL_WORDS = (
    "SELECT", "*", "FROM", "samples", "medians", "timed", "WHERE", "(", ")", ",", "'", '"', ";", "--", "/*",
    "*/", "1", "-1",
    "1e308", "NULL", "UNION ALL", "COPY", "TO", "'out.csv'", "ATTACH", "'x.db'", "INSTALL", "LOAD", "httpfs", "PRAGMA",
    "SET", "enable_external_access", "=", "true", "read_csv('/etc/passwd')", "read_text('/etc/passwd')", "glob('/*')",
    "read_parquet('x')", "getenv('HOME')", "CREATE TABLE t AS", "DROP VIEW samples", "INSERT INTO",
    "EXPORT DATABASE 'x'",
    "IMPORT DATABASE 'x'", "range(1000)", "repeat('x', 1000)", "$1", "$a", "?", "\\", "\x00", "🦠", "crop", "elapsed_s",
    "GROUP BY", "ORDER BY", "LIMIT", "OFFSET", "WITH RECURSIVE", "AS", "x", "CAST", "::INTEGER", "[1]", "{'a': 1}",
    "EXPLAIN", "DESCRIBE", "SHOW TABLES", "CALL", "CHECKPOINT", "duckdb_settings()", "query('SELECT 1')",
    "IN", "'a' || 'b'",
)  # fmt: skip


# Parts of paths that somebody has typed, copied or been given.
PATH_WORDS = (
    "~", "~nobody", "~root", "..", ".", "", "/", "//", "s3:", "file:", "http:", "foo:", "-", "--out", "*", "?", "[",
    "'", '"', "$(x)", "`x`", ";", "&", "|", "\\", "C:", "%00", "\n", "\t", "\r", "\x1b[2J", " ", "results", "samples",
    "quick", "cells.tif", "a.parquet", "x" * 256, "y" * 100, "é", "\u202e", "\ufeff", "🦠", "\udcff", "\udc80",
    "dev", "null", "zero", "proc", "self", "mem", "fd", "0", "1", "endpoint_override=", "con", "nul", "journal",
)  # fmt: skip
ENCODINGS = ("ascii", "latin-1", "cp1252", "cp437", "koi8-r", "gbk", "shift_jis", "big5", "euc_kr", "utf-8", "utf-16")


def damage(rng: random.Random, data: bytes) -> bytes:
    """Change, cut, repeat or insert some bytes; the more often the less."""
    found = bytearray(data)
    for _ in range(min(1 + int(rng.expovariate(0.5)), 20)):
        at = rng.randrange(len(found)) if found else 0
        # What matters in a file stands first and last.
        if found and rng.random() < 0.6:
            at = rng.choice((rng.randrange(min(len(found), 400)), len(found) - 1 - rng.randrange(min(len(found), 400))))
        match rng.randrange(7):
            case 0 if found:
                found[at] ^= 1 << rng.randrange(8)
            case 1 if found:
                found[at] = rng.randrange(256)
            case 2:
                value, width = rng.choice(INTERESTING), rng.choice((1, 2, 4, 8))
                encoded = (value % 256**width).to_bytes(width, rng.choice(("little", "big")))
                found[at : at + width] = encoded
            case 3:
                del found[at : at + 1 + int(rng.expovariate(0.05))]
            case 4:
                found[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
            case 5 if rng.random() < 0.3:
                del found[at:]
            case 6:
                length = rng.randrange(1, 65)
                found[at : at + length] = found[rng.randrange(len(found)) :][:length] if found else b""
    return bytes(found)


def words(rng: random.Random, vocabulary: tuple[str, ...]) -> str:
    """Some of these words in any order."""
    return rng.choice((" ", "", " ")).join(rng.choices(vocabulary, k=rng.randrange(1, 25)))


# ------------------------------------------------------------------ what they start from


@cache
def tiffs() -> tuple[bytes, ...]:
    """Small TIFF files of the kinds that people have."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (40, 30), np.uint8)
    stack = np.stack([grey, grey // 2, grey // 3])
    kinds = (
        (grey, {}), (grey, {"compression": "zlib", "rowsperstrip": 8}), (grey, {"compression": "lzw",
        "tile": (16, 16)}),
        (grey.astype(np.uint16), {"bigtiff": True, "byteorder": ">"}), (grey, {"ome": True}), (stack, {"imagej": True}),
        (grey.astype(np.float32), {"compression": "zstd", "predictor": True}),
        (grey > 100, {"photometric": "minisblack"}),
        (stack, {"photometric": "minisblack", "ome": True, "compression": "zlib"}), (grey, {"compression": "packbits"}),
        (np.dstack([grey] * 3), {"photometric": "rgb", "planarconfig": "contig"}), (grey, {"compression": "jpeg"}),
    )  # fmt: skip
    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for pixels, options in kinds:
            buffer = io.BytesIO()
            tifffile.imwrite(buffer, pixels, **options)
            made.append(buffer.getvalue())
    return tuple(made)


@cache
def profiles() -> tuple[bytes, ...]:
    """The built-in profiles."""
    return tuple(path.read_bytes() for path in sorted(config.PROFILES.glob("*.toml")))


@cache
def table() -> pa.Table:
    return schema.table(make_sample(repetition=i, node=f"desk{i % 2}") for i in range(4))


@cache
def parquet() -> bytes:
    """A results file."""
    buffer = io.BytesIO()
    pq.write_table(table(), buffer, compression="zstd")
    return buffer.getvalue()


@cache
def journal() -> bytes:
    """A journal that a killed run left behind."""
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, schema.ARROW) as writer:
        for batch in table().to_batches(max_chunksize=1):
            writer.write_batch(batch)
    return buffer.getvalue()


# What may stand in a cell of a submission: values at limits, names that a reader may use, things to execute.
CELLS = (
    0, 1, -1, 2**31, 2**63 - 1, -(2**63), 0.0, -0.0, 1e-320, 1e308, float("nan"), float("inf"), True, None, "",
    "x" * 201, "../../x", "full", "control", "224", "-1", "9" * 30, "cyto3", "stock", "lossless+lossless", "${x}",
    "<script>alert(1)</script>", "=cmd()", "__import__('os')", "\x1b[2J", "\u202e", "é", "tune", "masks", "ok", "crash",
    "cellpose4", "simulated", "thorough", "NVIDIA H200", "00:11:22:33:44:55",
)  # fmt: skip
SEPARATOR = b"\0manifest\0"


@cache
def _submissions() -> tuple[list[schema.Sample], ...]:
    """Rows of two sizes of two models, and of one more role each."""
    found = []
    for model, others in (
        ("cyto3", {"role": "masks", "ap50": 1.0, "agreement": "identical"}),
        ("cpsam_v2", {"role": "ceiling", "phase": "matmul", "work_gflop": 1e3, "n_cells": None}),
    ):
        rows = submitted.rows(model=model)[:12]
        found.append([*rows, {**rows[0], "stop_reason": None, **others}])
    return tuple(found)


def submission(rng: random.Random) -> bytes:
    """The two files of a submission: damaged bytes, hostile cells that are consistent otherwise, or other columns."""
    rows = [dict(row) for row in rng.choice(_submissions())]
    kind = rng.choice((0, 0, 0, 1, 2, 3, 4))
    for _ in range(rng.randrange(1, 4) if kind == 0 else 0):
        name, value = rng.choice(form.COLUMNS), rng.choice(CELLS)
        for row in rows if rng.random() < 0.5 else rng.sample(rows, 1):
            row[name] = value
    rows = [row | dict(zip(("case_id", "series_key"), form.keys(row), strict=True)) for row in rows]
    columns = {name: _array([row.get(name) for row in rows], form.SCHEMA.field(name).type) for name in form.COLUMNS}
    found = pa.table(columns, metadata=form.SCHEMA.metadata)
    if kind == 1:
        name, value = rng.choice(form.COLUMNS), rng.choice(CELLS)
        other = [[value], {"a": value}, value, str(value).encode("utf-8", "replace")][rng.randrange(4)]
        at = found.schema.get_field_index(name)
        found = found.set_column(at, rng.choice((name, "x", "")), pa.array([other] * len(rows)))
    content = io.BytesIO()
    compression = rng.choice(("zstd", "gzip")) if kind == 4 else "none"
    pq.write_table(found, content, row_group_size=rng.choice((1, 60)), compression=compression, store_schema=False)
    data = content.getvalue()
    try:
        manifest = form.text(form.manifest(found.to_pylist(), "0123456789ab", hashlib.sha256(data).hexdigest()))
    except Exception:  # of rows that no check would let through to here
        manifest = "{}"
    encoded = manifest.encode("utf-8", "replace")
    return (damage(rng, data) if kind == 2 else data) + SEPARATOR + (damage(rng, encoded) if kind == 3 else encoded)


def _array(values: list[object], type_: pa.DataType) -> pa.Array:
    """The values as their column's type, or as a type that they have, or as text."""
    for each in (type_, None):
        try:
            return pa.array(values, each)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
    return pa.array(list(map(str, values)))


# ------------------------------------------------------------------ what reads them


def read_tiff(data: bytes, folder: Path) -> None:
    path = folder / "cells.tif"
    path.write_bytes(data)
    images.load(str(path))


def read_profile(data: bytes, folder: Path) -> None:
    path = folder / "mine.toml"
    path.write_bytes(data)
    found = config.load(str(path))
    if found.image not in ("sparse", "dense"):  # drawn in seconds, and not what is tried here
        images.load(found.image, found.plane, found.channel)


def read_parquet(data: bytes, folder: Path) -> None:
    path = folder / "store" / "samples" / "month=2026-01" / f"{RUN_ID}-desk.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    session = query.Session(store.Store.at(folder / "store"))
    for sql in ("SELECT * FROM medians", "SELECT * FROM samples", "SELECT * FROM runs"):
        session.table(sql)


def read_journal(data: bytes, folder: Path) -> None:
    shutil.rmtree(folder / "left", ignore_errors=True)
    path = folder / "left" / "journal" / f"{RUN_ID}.arrows"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    os.utime(path, (1e9, 1e9))  # a run that was killed long ago
    store.Store.at(folder / "left").dataset().to_table()  # what was recovered must be whole


@cache
def _known() -> checks.Known:
    return checks.known(Path("nowhere"))


def read_submission(data: bytes, folder: Path) -> None:
    content, _, manifest = data.rpartition(SEPARATOR)
    path = folder / "set" / "nvidia-h200" / "202611-0123456789ab.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_suffix(".json").write_bytes(manifest)
    [(_, verdict, reasons)] = checks.validate(folder / "set", _known())
    json.dumps([reason.text for reason in reasons]).encode()
    assert len(collection.load(folder / "set").entries) == 1
    if verdict == collection.Verdict.REJECTED:
        raise CellbenchError(reasons[0].text)


def read_path(data: bytes, folder: Path) -> None:
    """What commands do with a path: each of these may refuse it."""
    path = os.fsdecode(data)
    uses = (files.expanded, store.Store.check, config.load, _segmented, lambda text: selection.select(folder, text))
    refused = 0
    for use in uses:
        try:
            use(path)
        except CellbenchError as error:
            assert str(error).strip()
            refused += 1
    if refused:
        raise CellbenchError(f"{refused} of {len(uses)} refuse it")


def _segmented(path: str) -> None:
    if path not in ("sparse", "dense"):
        images.load(path)


def read_letters(data: bytes, _: Path) -> None:
    """A text for people on a terminal of any encoding."""
    codecs.register_error("cellbench.plain", surroundings.plain)
    encoding, text = ENCODINGS[data[0] % len(ENCODINGS)], data[1:].decode("utf-8", "surrogateescape")
    written = text.encode(encoding, "cellbench.plain")
    assert len(written) >= len(text) / 2  # accents go


@cache
def _session(folder: Path) -> query.Session:
    path = folder / "store" / "samples" / "month=2026-01" / f"{RUN_ID}-desk.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parquet())
    return query.Session(store.Store.at(folder / "store"), time_limit_s=2)


def read_sql(data: bytes, folder: Path) -> None:
    _session(folder).table(data.decode("utf-8", "replace"))


def _path(rng: random.Random) -> bytes:
    text = rng.choice(("/", "", "://")).join(rng.choices(PATH_WORDS, k=rng.randrange(1, 12)))
    return text.encode("utf-8", "surrogateescape" if rng.random() < 0.5 else "replace")


def _letters(rng: random.Random) -> bytes:
    """A number that chooses an encoding, letters of all alphabets, and bytes that are none."""
    ranges = (range(0x250), range(0x2000, 0x2C00), range(0xD800))
    text = "".join(chr(rng.choice(rng.choice(ranges))) for _ in range(40))
    return rng.randbytes(1) + text.encode() + rng.randbytes(rng.randrange(4))


def draw(kind: str, rng: random.Random) -> bytes:
    """One hostile input of a kind."""
    if kind == "tiff":
        return damage(rng, rng.choice(tiffs()))
    if kind == "profile":
        if rng.random() < 0.5:
            return words(rng, TOML_WORDS).encode()
        return damage(rng, rng.choice(profiles()))
    if kind == "sql":
        text = words(rng, SQL_WORDS)
        return ("SELECT " + text if rng.random() < 0.5 else text).encode()
    if kind in OWN:
        return OWN[kind](rng)
    return damage(rng, parquet() if kind == "parquet" else journal())


OWN = {"path": _path, "letters": _letters, "submission": submission}
READERS: dict[str, Callable[[bytes, Path], None]] = {
    "tiff": read_tiff, "profile": read_profile, "parquet": read_parquet, "journal": read_journal, "sql": read_sql,
    "path": read_path, "letters": read_letters, "submission": read_submission,
}  # fmt: skip


def verdict(kind: str, data: bytes, folder: Path) -> str:
    """fine or refused; any other exception than CellbenchError goes through."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StoreWarning)  # what is damaged is set aside, and that is said
            READERS[kind](data, folder)
    except CellbenchError as error:
        assert str(error).strip()
        return "refused"
    return "fine"
