"""The form of a submission: one Parquet file of the columns listed here, and a JSON manifest that people read.

    results/reference/<slug>/<yyyymm>-<id>.parquet    the samples of one run on one device
    results/reference/<slug>/<yyyymm>-<id>.json       manifest() of them

A column that is not listed is private.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness import schema
from harness.schema import Role, Row, Status, identity

LICENCE = "CC0-1.0"
CONTROL = "control"  # the small image that each process times first and last
COLUMNS = (
    "schema_version", "run_id", "case_id", "series_key", "source", "profile", "started_at", "role", "phase", "block",
    "position", "repetition", "elapsed_s", "status", "stop_reason", "precision", "sync", "workload", "engine",
    "protocol", "protocol_version", "variant", "result_variant", "model", "weights", "weights_sha256",
    "size_model_sha256", "diam_labels_px", "image", "image_sha256", "image_is_synthetic", "crop", "height_px",
    "width_px", "batch_size", "dtype", "diameter_asked_px", "n_cells", "diameter_px", "mask_sha256", "stage_pass",
    "stage", "n_tiles", "work_gflop", "work_gb", "peak_rss_bytes", "rss_method", "cuda_allocated_bytes",
    "cuda_reserved_bytes", "mps_current_bytes", "mps_driver_bytes", "n_calls", "energy_j", "energy_gross_j",
    "idle_power_w", "energy_class", "energy_method", "ap50", "ap90", "mean_iou", "reference_n_cells",
    "reference_diameter_px", "agreement", "flags", "unwatched", "throttled_s", "foreign_cpu_share", "gpu_throttle",
    "node", "backend", "device", "device_used", "device_name", "cpu_model", "instruction_set", "n_cores",
    "cpu_quota_cores", "ram_bytes", "os", "arch", "torch_threads", "opencv_threads", "numba_threads",
    "harness_version", "python_version", "torch_version", "engine_version", "cellpose_version", "numpy_version",
    "numba_version", "opencv_version",
)  # fmt: skip
SCHEMA = pa.schema([schema.ARROW.field(name).remove_metadata() for name in COLUMNS], schema.ARROW.metadata)
# What one median of a manifest belongs to; equal in two submissions that did the same work in the same way.
WORK = ("engine", "model", "weights", "protocol", "variant", "dtype", "image", "crop")
VERSIONS = (
    "harness_version", "python_version", "torch_version", "engine_version", "cellpose_version", "numpy_version",
    "numba_version", "opencv_version",
)  # fmt: skip
HARDWARE = ("device_name", "backend", "cpu_model", "n_cores", "torch_threads", "ram_bytes", "os", "arch")


def slug(name: str, backend: str | None = None) -> str:
    """A name of hardware as the name of a folder: 'Tesla T4' as tesla-t4, the GPU of an Apple M1 as apple-m1-gpu."""
    bare = re.sub(r"\((r|tm|c)\)", " ", name.lower())
    bare += " gpu" if backend == "mps" else ""  # its device has the name of the processor
    return re.sub(r"[^a-z0-9]+", "-", bare).strip("-")[:60].strip("-") or "unknown"


def run_id(month: str, number: str) -> str:
    """The name of the run of a submission, which has no time of day and no day; month: YYYY-MM."""
    return f"{month.replace('-', '')}01T000000Z-{number}"


def begin(month: str) -> datetime:
    """The time that replaces every time in a submission of this month."""
    return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)


def stem(month: str, number: str) -> str:
    """The name of the two files of a submission."""
    return f"{month.replace('-', '')}-{number}"


def keys(row: Row) -> tuple[str, str]:
    """The case_id and the series_key of a row."""
    return identity.key(row, identity.CASE), identity.key(row, identity.SERIES)


def rounded(n_bytes: int) -> int:
    """A size of memory to two digits: the exact one differs between machines of one kind."""
    return int(float(f"{n_bytes:.1e}"))


def encode(samples: pa.Table) -> bytes:
    """The Parquet file of these samples: the columns of a submission that have values.

    Without compression and statistics, which takes a third of the time to read thousands of small files.
    """
    held = [name for name in COLUMNS if samples[name].null_count < samples.num_rows]
    fields = pa.schema([SCHEMA.field(name) for name in held], SCHEMA.metadata)
    content = io.BytesIO()
    with pq.ParquetWriter(
        content, fields, compression="none", write_statistics=False, write_page_checksum=True, store_schema=False
    ) as writer:
        writer.add_key_value_metadata(fields.metadata)
        writer.write_table(samples.select(held).cast(fields))
    return content.getvalue()


def manifest(rows: list[Row], number: str, sha256: str) -> dict[str, Any]:
    """The facts of a submission that people read, computed from its samples; sha256: of the Parquet file.

    Each case has its median in s, its range and n, or the status of its failure.
    """
    calls = [row for row in rows if row["role"] in (Role.TIMED, Role.WARMUP) and row["crop"] != CONTROL] or rows
    calls = sorted(calls, key=lambda row: (row["height_px"] or 0) * (row["width_px"] or 0))
    work = {name: value for name, value in _facts(calls, (*WORK, "profile")).items() if not isinstance(value, list)}
    return {
        "id": number,
        "month": f"{calls[0]['started_at']:%Y-%m}",
        "licence": LICENCE,
        "hardware": _facts(calls, HARDWARE),
        "versions": _facts(calls, VERSIONS),
        "work": work,
        "cases": [
            {name: value for name, value in zip(WORK, key, strict=True) if name not in work} | _case(rows)
            for key, rows in identity.grouped(calls, lambda row: tuple(map(row.get, WORK))).items()
        ],
        "flags": dict(Counter(flag for row in calls for flag in (row["flags"] or "").split())),
        "n_rows": len(rows),
        "sha256": sha256,
    }


def text(found: Mapping[str, Any]) -> str:
    """A manifest as JSON, a line for each fact and each case."""
    cases = ",\n".join(f"  {json.dumps(case)}" for case in found["cases"])
    whole = json.dumps({**found, "cases": []}, indent=1)
    return whole.replace('"cases": []', f'"cases": [\n{cases}\n ]') + "\n"


def _facts(rows: list[Row], names: tuple[str, ...]) -> Row:
    """Their values in the rows; a list where the rows differ."""
    found = {name: list(dict.fromkeys(row[name] for row in rows if row[name] is not None)) for name in names}
    return {name: values[0] if len(values) == 1 else values for name, values in found.items() if values}


def _case(rows: list[Row]) -> Row:
    timed = [row for row in rows if row["role"] == Role.TIMED and row["status"] == Status.OK]
    seconds = [row["elapsed_s"] for row in timed]
    if not seconds:
        return {"status": max(row["status"] for row in rows), "n": 0}
    return {
        "median_s": round(median(seconds), 6),
        "min_s": round(min(seconds), 6),
        "max_s": round(max(seconds), 6),
        "n": len(seconds),
        "n_processes": len({row["block"] for row in timed}),
        "n_cells": timed[0]["n_cells"],
    }
