"""Every column of the results, once: name, type, unit, meaning, the rows that have it, its first version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from harness.schema import identity
from harness.schema.enumerations import Role, Status
from harness.schema.versions import VERSION

# A row between a worker and the store. Plain values only, since numpy 1 and 2 pickles do not mix.
Sample = dict[str, Any]
Row = dict[str, Any]  # of a view or a table: values by column

TEXT, INTEGER, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
INSTANT = pa.timestamp("us", tz="UTC")
EVERY: Set[Role] = frozenset(Role)
IN_CASE: Set[Role] = EVERY - {Role.COLD}


@dataclass(frozen=True)
class Column:
    """One column of the samples: its name, content and meaning.

    roles: the roles whose rows may have it. always: whether every row has it. when_ok: the roles whose ok rows have it.
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str | None = None
    since: int = 1
    roles: Set[Role] = EVERY
    always: bool = False
    when_ok: Set[Role] = frozenset()


SAMPLES = (
    # who and when
    Column("schema_version", INTEGER, "version of this schema the row was written with", always=True),
    Column("run_id", TEXT, "one invocation; sorts by time", always=True),
    Column(
        "case_id", TEXT, "what gets one median in a run: the series, on one node, with one set of versions", always=True
    ),
    Column(
        "series_key",
        TEXT,
        "the same work, executed alike on the same machine and device, over time; versions do not split it",
        always=True,
    ),
    Column("source", TEXT, "measured, imported from elsewhere, or reference (in the reference set)", always=True),
    Column("profile", TEXT, "name of the profile of the run"),
    Column("started_at", INSTANT, "wall clock at the start of the repetition", always=True),
    # what was timed
    Column(
        "role",
        TEXT,
        f"{', '.join(Role)}; cold: first in its process",
        always=True,
    ),
    Column(
        "phase",
        TEXT,
        "call; cold: import, device_start, model_load; stages: stage; ceiling: matmul, convolution, copy",
        always=True,
    ),
    Column("block", INTEGER, "number of the fresh process within the run and device, from 0"),
    Column(
        "position", INTEGER, "place of the case in its block's shuffled order, from 0; control: -1 first, then last"
    ),
    Column("repetition", INTEGER, "number within its role and case, from 0"),
    Column(
        "elapsed_s",
        REAL,
        "duration by the worker's monotonic clock, synced on both sides; null if it failed",
        "s",
        when_ok=EVERY,
    ),
    Column("attempt", INTEGER, "how often this task was begun before, in a run that was resumed", since=3),
    Column(
        "status",
        TEXT,
        f"{', '.join(Status)}; skipped: cannot be measured here; variant_fallback: something else ran instead",
        always=True,
    ),
    Column("error_type", TEXT, "type of the failure"),
    Column("error_message", TEXT, "text of the failure"),
    Column(
        "stop_reason",
        TEXT,
        "why repetitions ended, on the last: fixed_n, precision, plateau, n_max or time_cap",
        roles=IN_CASE,
    ),
    Column(
        "precision",
        REAL,
        "half-width of the mean's 95 % confidence interval over the mean, so far",
        since=2,
        roles=IN_CASE,
    ),
    Column(
        "sync",
        TEXT,
        "function that waits for a device: torch.cuda.synchronize, torch.mps.synchronize, torch.xpu.synchronize, none",
    ),
    Column("dispatch", TEXT, "ray, or process when Ray was not used"),
    # the workload
    Column("workload", TEXT, "cellpose, or simulated in tests"),
    Column("engine", TEXT, "program that segments: cellpose3, simulated, …", since=4),
    Column("protocol", TEXT, "standard: eval() only; article: model construction and eval()"),
    Column("protocol_version", INTEGER, "version of the measurement rules"),
    Column("variant", TEXT, "how the engine is executed: stock, or names joined by + in their canonical order"),
    Column("result_variant", TEXT, "parts of the variant that change the result, which makes it other work", since=4),
    Column("model", TEXT, "name of the model"),
    Column("weights", TEXT, "published, standin or custom"),
    Column("weights_sha256", TEXT, "hash of the network's file"),
    Column("size_model_sha256", TEXT, "hash of the size model's file"),
    Column("diam_labels_px", REAL, "mean training diameter stored in the weights; sets the first pass's scale", "px"),
    Column("image", TEXT, "file name, or the name of a built-in synthetic image"),
    Column("image_sha256", TEXT, "hash of the whole image's pixels"),
    Column("image_is_synthetic", FLAG, "true for a built-in image"),
    Column("crop", TEXT, "side of the centred square in px, or full"),
    Column("height_px", INTEGER, "height of what was segmented", "px"),
    Column("width_px", INTEGER, "width of what was segmented", "px"),
    Column("batch_size", INTEGER, "tiles per network call"),
    Column("dtype", TEXT, "number format of the network: float32, bfloat16, float16", since=4),
    Column("diameter_asked_px", REAL, "diameter given to eval(); 0 means estimate it", "px"),
    # the check that goes with every time
    Column("n_cells", INTEGER, "cells found: masks.max(), background not counted"),
    Column("diameter_px", REAL, "diameter that cellpose estimated or was given", "px"),
    Column("mask_sha256", TEXT, "hash of the label image as little-endian uint32"),
    # the stage pass: parts of a call, and what a device can do at best
    Column(
        "stage_pass",
        TEXT,
        "which of cellpose's passes over the image: style, size or mask; none outside",
        since=2,
        roles={Role.STAGES},
    ),
    Column(
        "stage",
        TEXT,
        "part of the call, elapsed_s without its own parts; other is what no hook claims",
        since=2,
        roles={Role.STAGES},
    ),
    Column("n_tiles", INTEGER, "tiles that went through the network", since=2, roles={Role.STAGES, Role.CEILING}),
    Column(
        "work_gflop",
        REAL,
        "floating-point operations of what was timed",
        "GFLOP",
        since=2,
        roles={Role.STAGES, Role.CEILING},
    ),
    Column(
        "work_gb",
        REAL,
        "bytes that what was timed reads and writes, unfused",
        "GB",
        since=2,
        roles={Role.STAGES, Role.CEILING},
    ),
    # the memory and energy passes; one column per method, since methods never share an axis
    Column(
        "peak_rss_bytes",
        INTEGER,
        "peak resident memory of the process during the call",
        "bytes",
        since=2,
        roles={Role.MEMORY},
    ),
    Column("rss_method", TEXT, "VmHWM (the kernel's own peak) or sampled every 5 ms", since=2, roles={Role.MEMORY}),
    Column("cuda_allocated_bytes", INTEGER, "peak of torch's allocated tensors", "bytes", since=2, roles={Role.MEMORY}),
    Column(
        "cuda_reserved_bytes",
        INTEGER,
        "peak memory reserved by torch's allocator",
        "bytes",
        since=2,
        roles={Role.MEMORY},
    ),
    Column(
        "mps_current_bytes",
        INTEGER,
        "peak of torch.mps.current_allocated_memory, sampled every 5 ms",
        "bytes",
        since=2,
        roles={Role.MEMORY},
    ),
    Column(
        "mps_driver_bytes",
        INTEGER,
        "peak of torch.mps.driver_allocated_memory, sampled every 5 ms",
        "bytes",
        since=2,
        roles={Role.MEMORY},
    ),
    Column(
        "n_calls",
        INTEGER,
        "calls inside the energy window; elapsed_s is the window",
        since=2,
        roles={Role.ENERGY},
        when_ok={Role.ENERGY},
    ),
    Column(
        "n_images",
        INTEGER,
        "images segmented between the two readings of the clock; role throughput",
        since=3,
        roles={Role.THROUGHPUT},
        when_ok={Role.THROUGHPUT},
    ),
    Column(
        "n_processes",
        INTEGER,
        "processes that shared the device and the images",
        since=3,
        roles={Role.THROUGHPUT},
        when_ok={Role.THROUGHPUT},
    ),
    Column(
        "n_in_flight",
        INTEGER,
        "images that each process had in work at a time",
        since=3,
        roles={Role.THROUGHPUT},
        when_ok={Role.THROUGHPUT},
    ),
    Column("energy_j", REAL, "energy of the window above idle", "J", since=2, roles={Role.ENERGY}),
    Column("energy_gross_j", REAL, "energy of the window, idle included", "J", since=2, roles={Role.ENERGY}),
    Column(
        "idle_power_w",
        REAL,
        "mean power over 10 s of rest, before this process first touched the device",
        "W",
        since=2,
        roles={Role.ENERGY},
    ),
    Column("energy_class", TEXT, "sensor: the chip's own counter, not the wall", since=2, roles={Role.ENERGY}),
    Column("energy_method", TEXT, "nvml or rapl, and which parts it covers", since=2, roles={Role.ENERGY}),
    # the mask pass: agreement with stock cellpose on the CPU of the same node
    Column("ap50", REAL, "average precision at IoU 0.5 against the reference", since=2, roles={Role.MASKS}),
    Column("ap90", REAL, "average precision at IoU 0.9 against the reference", since=2, roles={Role.MASKS}),
    Column("mean_iou", REAL, "mean IoU of the reference's cells with their matches", since=2, roles={Role.MASKS}),
    Column("reference_n_cells", INTEGER, "cells in the reference", since=2, roles={Role.MASKS}),
    Column("reference_diameter_px", REAL, "diameter in the reference", "px", since=2, roles={Role.MASKS}),
    # of a drawn image: accuracy of the masks that are found without a given diameter; null with stand-in weights
    Column("truth_ap50", REAL, "average precision at IoU 0.5 against the drawn cells", since=4, roles={Role.MASKS}),
    Column("truth_ap75", REAL, "average precision at IoU 0.75 against the drawn cells", since=4, roles={Role.MASKS}),
    Column("truth_ap90", REAL, "average precision at IoU 0.9 against the drawn cells", since=4, roles={Role.MASKS}),
    Column("truth_f1", REAL, "F1 at IoU 0.5 against the drawn cells", since=4, roles={Role.MASKS}),
    Column("truth_n_cells", INTEGER, "cells that were drawn", since=4, roles={Role.MASKS}),
    Column("agreement", TEXT, "identical, equivalent, close or different", since=2, roles={Role.MASKS}),
    # interference: readings around each repetition, outside its clock; null where this machine has no reading
    Column(
        "flags",
        TEXT,
        "load, gpu_load, throttled, low_clock, battery, thermal, suspend, clock_jump, drift; spaced",
        since=2,
    ),
    Column(
        "unwatched",
        TEXT,
        "flags that this machine cannot raise, since it does not show what they need; spaced",
        since=4,
    ),
    Column("throttled_s", REAL, "time that a processor quota stopped us, summed over processors", "s", since=4),
    Column(
        "foreign_cpu_share", REAL, "share of all logical processors that others used (stolen time included)", since=2
    ),
    Column("foreign_gpu_processes", INTEGER, "processes of others that computed on the GPU", since=2),
    Column("cpu_mhz", REAL, "mean clock of the processors right after", "MHz", since=2),
    Column("cpu_temperature_c", REAL, "hottest processor sensor right after", "°C", since=2),
    Column("gpu_mhz", REAL, "clock of the GPU's multiprocessors right after", "MHz", since=2),
    Column("gpu_temperature_c", REAL, "temperature of the GPU right after", "°C", since=2),
    Column("gpu_power_w", REAL, "power of the GPU right after", "W", since=2),
    Column("gpu_throttle", TEXT, "reasons that the driver gives for a lowered clock; spaced", since=2),
    Column("idle_wait_s", REAL, "how long the block waited for the machine to be idle before it began", "s", since=2),
    Column(
        "environment",
        TEXT,
        "facts about the node as JSON, on each block's model_load row; see view environments",
        since=2,
        roles={Role.COLD, Role.THROUGHPUT},
    ),
    # where it ran
    Column("node", TEXT, "name of the machine: its host name, or what its fleet calls it", always=True),
    Column(
        "machine_id",
        TEXT,
        "16 hex digits of a hash over the machine's own id and its GPUs'; null: node names it",
        since=4,
    ),
    Column(
        "drives_run",
        FLAG,
        "true where the command that drives the run, and Ray's head as a rule, ran on this machine, too",
        since=3,
    ),
    Column("backend", TEXT, "cuda, rocm, mps, xpu or cpu"),
    Column("device", TEXT, "requested device, e.g. cuda:0", always=True),
    Column("device_used", TEXT, "device the parameters and outputs were really on"),
    Column("device_name", TEXT, "model of the processor or accelerator"),
    Column("cpu_model", TEXT, "model of the host's processor"),
    Column("instruction_set", TEXT, "vector and matrix extensions that the processor offers, in short", since=4),
    Column(
        "n_cores",
        INTEGER,
        "cores that this process may use, within its quota: physical ones; of an Apple chip the performance cores",
    ),
    Column("cpu_quota_cores", REAL, "processors' worth of time that control groups allow; null: no limit", since=4),
    Column("ram_bytes", INTEGER, "memory of the host", "bytes"),
    Column("os", TEXT, "operating system and release"),
    Column("arch", TEXT, "machine architecture"),
    Column("torch_threads", INTEGER, "read back from torch"),
    Column("openmp_threads", TEXT, "OMP_NUM_THREADS as the process saw it"),
    Column("opencv_threads", INTEGER, "read back from OpenCV"),
    Column("numba_threads", INTEGER, "read back from numba"),
    # software
    Column("harness_version", TEXT, "version of this program"),
    Column("python_version", TEXT, "version of Python"),
    Column("torch_version", TEXT, "version of torch, with its build"),
    Column("engine_version", TEXT, "version of the engine", since=4),
    Column("cellpose_version", TEXT, "version of cellpose"),
    Column("numpy_version", TEXT, "version of numpy"),
    Column("numba_version", TEXT, "version of numba"),
    Column("opencv_version", TEXT, "version of OpenCV"),
    Column("ray_version", TEXT, "version of Ray; null where it was not used"),
)

# The columns that every row has; null anywhere else means unknown, or that it does not apply.
REQUIRED = tuple(column.name for column in SAMPLES if column.always)

# The first column of each section of the samples, and what the section is about.
SECTIONS = {
    "schema_version": "Who and when",
    "role": "What was timed",
    "workload": "The workload",
    "n_cells": "The result of the segmentation",
    "stage_pass": "The stage pass: parts of a call, and what a device can do at best",
    "peak_rss_bytes": "The memory and energy passes; one column per method, since methods never share an axis",
    "ap50": "The mask pass: agreement with stock cellpose on the CPU of the same node",
    "flags": "Interference: readings around each repetition, outside its clock",
    "node": "Where it ran",
    "harness_version": "Software",
}

ARROW = pa.schema(
    [pa.field(c.name, c.type, metadata={"meaning": c.meaning, "unit": c.unit or ""}) for c in SAMPLES],
    metadata={"cellbench.schema_version": str(VERSION)},
)

# The same without the meanings, which would be most of a small file.
BARE = pa.schema([pa.field(c.name, c.type) for c in SAMPLES], metadata=ARROW.metadata)

_STRUCT = pa.struct(list(ARROW))
_TYPES = {field.name: field.type for field in ARROW}
_ALLOWED = {role: frozenset(c.name for c in SAMPLES if role in c.roles) for role in Role}
_NEEDED = {
    (role, status == Status.OK): frozenset(
        c.name for c in SAMPLES if c.always or (status == Status.OK and role in c.when_ok)
    )
    for role in Role
    for status in (Status.OK, Status.CRASH)
}


def sample(role: str, **columns: Any) -> Sample:
    """A row of this role, with the names of its case and its series.

    KeyError where it lacks a required column, or has one that its role cannot have: a programming error.
    """
    row = {**columns, "role": role, "case_id": identity.key(columns, identity.CASE)}
    row["series_key"] = identity.key(columns, identity.SERIES)
    check(row)
    return row


def check(row: Mapping[str, Any]) -> None:
    """Raise KeyError where a row lacks a required column, or has one that its role cannot have."""
    name = row.get("role")
    if name not in _ALLOWED:
        raise KeyError(f"there is no role {name!r}")
    role = Role(name)
    needed = _NEEDED[role, row.get("status") == Status.OK]
    if missing := sorted(name for name in needed if row.get(name) is None):
        raise KeyError(f"columns that a sample of role {role} must have: {missing}")
    if foreign := sorted(name for name in row.keys() - _ALLOWED[role] if row[name] is not None or name not in _TYPES):
        raise KeyError(f"columns that a sample of role {role} cannot have: {foreign}")


def table(samples: Iterable[Sample]) -> pa.Table:
    """Convert samples into an Arrow table of the one schema; KeyError as in check."""
    return pa.Table.from_batches([batch(samples)])


def batch(samples: Iterable[Sample]) -> pa.RecordBatch:
    """Convert samples into one Arrow batch of the one schema; KeyError as in check."""
    rows = list(samples)
    for row in rows:
        check(row)
    # A third of the time of from_pylist, which converts each column by itself.
    return pa.RecordBatch.from_arrays(pa.array(rows, _STRUCT).flatten(), schema=ARROW)


def version_of(arrow_schema: pa.Schema) -> int | None:
    """The schema version written into a file, or None for a file of another program."""
    text = (arrow_schema.metadata or {}).get(b"cellbench.schema_version")
    return int(text) if text else None


def mistyped(found: pa.Schema) -> list[str]:
    """The columns of a file that have another type here, as 'name: type'."""
    pairs = zip(found.names, found.types, strict=True)
    return [f"{name}: {type_}" for name, type_ in pairs if name in _TYPES and not _reads_as(type_, _TYPES[name])]


def _reads_as(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of one type can be read as another unchanged: 32 bits as 64, dictionaries as text."""
    if found == wanted:
        return True
    if pa.types.is_dictionary(found):
        return _reads_as(found.value_type, wanted)
    if pa.types.is_null(found):
        return True
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
    texts = (pa.types.is_string(t) or pa.types.is_large_string(t) for t in (found, wanted))
    return all(texts) or any(kind(found) and kind(wanted) for kind in kinds)
