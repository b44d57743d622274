"""Timings of others from a CSV file: samples with source imported.

Two formats, distinguished by their header:
simple   one row a repetition, columns named as in docs/schema.md; SIMPLE must be there, any of OPTIONAL may.
article  the output of the article's script: Processor, Iteration, Area, Model, Diameter, Masks, Calculation_Time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness import schema
from harness.engines import registry
from harness.errors import CellbenchError
from harness.machine import accelerators
from harness.schema import Phase, Role, Sample, Status

ARTICLE = ("Processor", "Iteration", "Area", "Model", "Diameter", "Masks", "Calculation_Time")
SIMPLE = ("device", "height_px", "width_px", "elapsed_s")
OPTIONAL = (
    "node", "started_at", "crop", "protocol", "variant", "engine", "model", "weights", "image", "image_sha256",
    "repetition", "block", "batch_size", "diameter_asked_px", "n_cells", "diameter_px", "device_name", "cpu_model",
    "n_cores",
    "ram_bytes", "os", "arch", "torch_threads", "python_version", "torch_version", "cellpose_version",
    "numpy_version", "engine_version", "dtype",
)  # fmt: skip
MISTAKES_SHOWN = 10
TYPES = {column.name: column.type for column in schema.SAMPLES}


@dataclass(frozen=True)
class Origin:
    """The facts that the file lacks: node, time, the accelerator behind "GPU", and other columns of every row."""

    node: str | None = None
    measured_at: datetime | None = None
    gpu: str | None = None  # one of accelerators.GPUS
    columns: Mapping[str, str] | None = None


def read(path: Path, origin: Origin) -> pa.Table:
    """Read a file of timings as samples of one run; all mistakes are reported in one error."""
    text = _text(path)
    reader = csv.DictReader(io.StringIO(text), strict=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    row_of = _format(path, header)
    constants = {name: _value(name, text, OPTIONAL) for name, text in (origin.columns or {}).items()}
    digest = hashlib.sha256((text + repr(origin)).encode()).hexdigest()[:12]
    samples, mistakes = [], []
    try:
        for line in reader:
            try:
                samples.append(row_of(line, origin) | constants)
            except ValueError as error:
                mistakes.append(f"{path}:{reader.line_num}: {error}")
    except csv.Error as error:
        mistakes.append(f"{path}:{reader.line_num}: {error}")
    if mistakes:
        more = len(mistakes) - MISTAKES_SHOWN
        shown = mistakes[:MISTAKES_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise CellbenchError(
            f"{len(mistakes)} rows cannot be used; nothing was imported", "\n         ".join(shown),
            "correct them, or give the missing columns with --node, --date, --gpu or --set",
        )  # fmt: skip
    if not samples:
        raise CellbenchError("the file has no rows", str(path), "give one with timings")
    return _finished(samples, digest)


def run_of(samples: pa.Table) -> str:
    """The run that imported samples belong to; the same file with the same origin always gets the same one."""
    return samples["run_id"][0].as_py()


def _finished(samples: list[Sample], digest: str) -> pa.Table:
    """Give the rows their common columns, a number and their names."""
    first_s = min(sample["started_at"] for sample in samples).timestamp()
    run_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(first_s)) + "-" + digest
    counts: dict[str, int] = {}
    made = []
    for sample in samples:
        engine = sample.get("engine") or schema.versions.BEFORE_ENGINES["engine"]
        row = schema.sample(Role.TIMED, **{
            "schema_version": schema.VERSION, "run_id": run_id, "source": "imported", "phase": Phase.CALL,
            "status": Status.OK, "workload": "cellpose", "block": 0, **sample, "engine": engine,
            "variant": registry.canonical(engine, sample["variant"]),
            "result_variant": registry.result_variant(engine, sample["variant"]),
        })  # fmt: skip
        number = counts[row["case_id"]] = counts.get(row["case_id"], -1) + 1
        if row.get("repetition") is None:
            row["repetition"] = number
        made.append(row)
    return schema.table(made)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CellbenchError(f"the file cannot be read: {error.strerror}", str(path)) from error
    except UnicodeDecodeError as error:
        raise CellbenchError("the file is not UTF-8 text", str(path), "save it as CSV in UTF-8") from error


def _format(path: Path, header: list[str]) -> Callable[[dict[str, str], Origin], Sample]:
    """The function that reads a row of this file; the header decides."""
    lacking = {"simple": sorted(set(SIMPLE) - set(header)), "article": sorted(set(ARTICLE) - set(header))}
    if not lacking["article"]:
        return _article
    unknown = sorted(set(header) - {*SIMPLE, *OPTIONAL})
    if lacking["simple"] or unknown:
        nearest = "article" if len(lacking["article"]) < len(lacking["simple"]) else "simple"
        what = f"columns are missing: {', '.join(lacking[nearest])}" if lacking[nearest] else None
        raise CellbenchError(
            what or f"unknown columns: {', '.join(unknown)}", str(path),
            f"needed are {', '.join(SIMPLE)}; allowed are {', '.join(OPTIONAL)}; or the article's {', '.join(ARTICLE)}",
        )  # fmt: skip
    return _simple


def _simple(line: dict[str, Any], origin: Origin) -> Sample:
    if None in line or None in line.values():
        raise ValueError("another number of fields than the header has")
    row = {name: _value(name, text, (*SIMPLE, *OPTIONAL)) for name, text in line.items() if text.strip()}
    if missing := [name for name in SIMPLE if name not in row]:
        raise ValueError(f"{', '.join(missing)} is empty")
    row |= _place(row["device"], row.get("node"), row.get("started_at"), origin)
    row.setdefault("crop", _crop(row["height_px"], row["width_px"]))
    return {"protocol": "standard", "variant": "stock", "model": "cyto3"} | row


def _article(line: dict[str, Any], origin: Origin) -> Sample:
    """One row of the article's script; it counted the background as a cell and built the model inside its clock."""
    if None in line or any(line[name] is None for name in ARTICLE):
        raise ValueError("another number of fields than the header has")
    processor = line["Processor"].strip().upper()
    if processor not in ("CPU", "GPU"):
        raise ValueError(f"Processor is {processor!r}, neither CPU nor GPU")
    if processor == "GPU" and origin.gpu is None:
        raise ValueError("the file contains GPU; name it with --gpu: " + ", ".join(accelerators.GPUS))
    device = "cpu" if processor == "CPU" else accelerators.Device(str(origin.gpu), 0, "").id
    height_px, width_px = _sides(line["Iteration"], line["Area"])
    return {
        "elapsed_s": _number("Calculation_Time", line["Calculation_Time"]), "height_px": height_px,
        "width_px": width_px, "crop": _crop(height_px, width_px), "n_cells": _whole("Masks", line["Masks"]) - 1,
        "diameter_px": _number("Diameter", line["Diameter"]), "model": line["Model"].strip(),
        "protocol": "article", "variant": "stock", "weights": "published", "diameter_asked_px": 0.0, "batch_size": 8,
        "device": device, "image": re.sub(r"_?\d+$", "", line["Iteration"].strip()) or None,
        "image_is_synthetic": False, **_place(device, None, None, origin),
    }  # fmt: skip


def _sides(name: str, area: str) -> tuple[int, int]:
    """Height and width: the name ends with the height, the area gives the rest."""
    found = re.search(r"(\d+)$", name.strip())
    pixels = _whole("Area", area)
    height_px = int(found[1]) if found else math.isqrt(pixels)
    if height_px < 1 or pixels % height_px:
        raise ValueError(f"Area {area} is not a multiple of the height in Iteration {name!r}")
    return height_px, pixels // height_px


def _crop(height_px: int, width_px: int) -> str:
    return str(height_px) if height_px == width_px else "full"


def _place(device: str, node: str | None, started_at: datetime | None, origin: Origin) -> Sample:
    """Place and time, from the row or from the options."""
    if not accelerators.names(device):
        raise ValueError(f"device {device!r}: known are {accelerators.device_words()}")
    backend, _, index = device.partition(":")
    if (node or origin.node) is None:
        raise ValueError("no node; name it with --node NAME")
    if (started_at or origin.measured_at) is None:
        raise ValueError("no started_at; give the day with --date 2024-08-31")
    return {
        "node": node or origin.node, "started_at": started_at or origin.measured_at,
        "backend": backend, "device": accelerators.Device(backend, int(index or 0), "").id,
    }  # fmt: skip


def _value(name: str, text: str, known: tuple[str, ...]) -> Any:
    """A column's text as the value of the schema's type."""
    if name not in known:
        raise CellbenchError(f"a column {name!r} cannot be given", "--set", f"allowed are {', '.join(known)}")
    if TYPES[name] == schema.INSTANT:
        return instant(text)
    if TYPES[name] == schema.INTEGER:
        return _whole(name, text)
    if TYPES[name] == schema.REAL:
        return _number(name, text)
    return text.strip()


def instant(text: str) -> datetime:
    """A date or time in ISO 8601; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r} is not a date like 2024-08-31 or 2024-08-31T18:00:00Z") from error
    if not 2000 <= found.year <= 2100:
        raise ValueError(f"{text!r} is not a year in which cellpose runs")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{name} is {text!r}, not a number") from error
    above = value > 0 if name != "diameter_asked_px" else value >= 0
    if not (math.isfinite(value) and above and value < 1e9):
        raise ValueError(f"{name} is {text}: it must be above 0 and finite")
    return value


def _whole(name: str, text: str) -> int:
    """A whole number in the form of other programs: 224, or 224.0."""
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{name} is {text!r}, not a whole number") from error
    least = 0 if name in ("n_cells", "repetition", "block") else 1
    if not (math.isfinite(value) and value == int(value) and least <= value < 2**53):
        raise ValueError(f"{name} is {text}: it must be a whole number of at least {least}")
    return int(value)
