"""Every column of the results, once: name, type, unit, meaning, since which version.

Version history
1  samples: one row per repetition, failure or start-up phase.
2  control case, stages, ceilings, memory, energy, masks: rows of new roles; flags and live readings with each
   sample; the node's environment with each block.
3  fleets: which node drove the run; statuses timeout and node_lost; imported timings; columns that must be there
   are checked when a sample is written.
4  engines: which program segmented, in which version and number format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

VERSION = 4

# A row on its way from a worker to the store. Plain values only, since numpy 1 and 2 pickles do not mix.
Sample = dict[str, Any]

TEXT, INTEGER, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
INSTANT = pa.timestamp("us", tz="UTC")


FINE = ("ok", "skipped")  # statuses that are no failure


@dataclass(frozen=True)
class Column:
    """One column of the samples: what it is called, holds and means."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str | None = None
    since: int = 1


SAMPLES = (
    # who and when
    Column("schema_version", INTEGER, "version of this schema the row was written with"),
    Column("run_id", TEXT, "one invocation; sorts by time"),
    Column("case_id", TEXT, "node × device × crop × variant × protocol × workload; what gets one median"),
    Column("series_key", TEXT, "same workload, hardware and protocol over time; software does not split it"),
    Column("source", TEXT, "measured, or imported from elsewhere"),
    Column("profile", TEXT, "name of the profile that asked for it"),
    Column("started_at", INSTANT, "wall clock at the start of the repetition"),
    # what was timed
    Column(
        "role",
        TEXT,
        "cold (first in its process), warmup, timed, control, stages, ceiling, memory, energy, masks, tune, throughput",
    ),
    Column(
        "phase", TEXT, "call; cold: import, device_start, model_load; stages: stage; ceiling: matmul, convolution, copy"
    ),
    Column("block", INTEGER, "number of the fresh process within the run and device, from 0"),
    Column(
        "position", INTEGER, "place of the case in its block's shuffled order, from 0; control: -1 first, then last"
    ),
    Column("repetition", INTEGER, "number within its role and case, from 0"),
    Column("elapsed_s", REAL, "duration by the worker's monotonic clock, synced on both sides; null if it failed", "s"),
    Column("attempt", INTEGER, "how often this task was begun before, in a run that was resumed", since=3),
    Column(
        "status",
        TEXT,
        "ok, skipped (cannot be measured here), oom_host, oom_device, timeout, crash, device_fallback or node_lost",
    ),
    Column("error_type", TEXT, "type of the failure"),
    Column("error_message", TEXT, "text of the failure"),
    Column("stop_reason", TEXT, "why repetitions ended, on the last: fixed_n, precision, plateau, n_max or time_cap"),
    Column("precision", REAL, "half-width of the mean's 95 % confidence interval over the mean, so far", since=2),
    Column("sync", TEXT, "how the device was waited for: torch.cuda.synchronize, torch.mps.synchronize or none"),
    Column("dispatch", TEXT, "ray, or process when Ray was not used"),
    # the workload
    Column("engine", TEXT, "what segments: cellpose3, or simulated in tests", since=4),
    Column("engine_version", TEXT, "version of the engine", since=4),
    Column("dtype", TEXT, "precision of the network: float32, bfloat16 or float16", since=4),
    Column("workload", TEXT, "cellpose, or simulated in tests"),
    Column("protocol", TEXT, "standard: eval() only; article: model construction and eval()"),
    Column("protocol_version", INTEGER, "version of the measurement rules"),
    Column(
        "variant", TEXT, "how cellpose is executed: stock, or names joined by +, see harness.engines.cellpose3.variants"
    ),
    Column("model", TEXT, "name of the model, cyto3"),
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
    Column("diameter_asked_px", REAL, "diameter given to eval(); 0 means estimate it", "px"),
    # the check that goes with every time
    Column("n_cells", INTEGER, "cells found: masks.max(), background not counted"),
    Column("diameter_px", REAL, "diameter that cellpose estimated or was given", "px"),
    Column("mask_sha256", TEXT, "hash of the label image as little-endian uint32"),
    # the stage pass: parts of a call, and what a device can do at best
    Column("stage_pass", TEXT, "which of cellpose's passes over the image: style, size or mask; none outside", since=2),
    Column("stage", TEXT, "part of the call, elapsed_s without its own parts; other is what no hook claims", since=2),
    Column("n_tiles", INTEGER, "tiles that went through the network", since=2),
    Column("work_gflop", REAL, "floating-point operations of what was timed", "GFLOP", since=2),
    Column("work_gb", REAL, "bytes that what was timed reads and writes, unfused", "GB", since=2),
    # the memory and energy passes; one column per method, since methods never share an axis
    Column("peak_rss_bytes", INTEGER, "peak resident memory of the process during the call", "bytes", since=2),
    Column("rss_method", TEXT, "VmHWM (the kernel's own peak) or sampled every 5 ms", since=2),
    Column("cuda_allocated_bytes", INTEGER, "peak of torch's allocated tensors", "bytes", since=2),
    Column("cuda_reserved_bytes", INTEGER, "peak of what torch's allocator held", "bytes", since=2),
    Column(
        "mps_current_bytes", INTEGER, "peak of torch.mps.current_allocated_memory, sampled every 5 ms", "bytes", since=2
    ),
    Column(
        "mps_driver_bytes", INTEGER, "peak of torch.mps.driver_allocated_memory, sampled every 5 ms", "bytes", since=2
    ),
    Column("n_calls", INTEGER, "calls inside the energy window; elapsed_s is the window", since=2),
    Column("n_images", INTEGER, "images segmented between the two readings of the clock; role throughput", since=3),
    Column("n_processes", INTEGER, "processes that shared the device and the images", since=3),
    Column("n_in_flight", INTEGER, "images that each process had in work at a time", since=3),
    Column("energy_j", REAL, "energy of the window above idle", "J", since=2),
    Column("energy_gross_j", REAL, "energy of the window, idle included", "J", since=2),
    Column("idle_power_w", REAL, "power while nothing ran, just before", "W", since=2),
    Column("energy_class", TEXT, "sensor: the chip's own counter, not the wall", since=2),
    Column("energy_method", TEXT, "nvml or rapl, and which parts it covers", since=2),
    # the mask pass: agreement with stock cellpose on the CPU of the same node
    Column("ap50", REAL, "average precision at IoU 0.5 against the reference", since=2),
    Column("ap90", REAL, "average precision at IoU 0.9 against the reference", since=2),
    Column("mean_iou", REAL, "mean IoU of the reference's cells with their matches", since=2),
    Column("reference_n_cells", INTEGER, "cells in the reference", since=2),
    Column("reference_diameter_px", REAL, "diameter in the reference", "px", since=2),
    Column("agreement", TEXT, "identical, equivalent, close or different; null where neither has a cell", since=2),
    # what else went on: readings around each repetition, outside its clock; null where this machine does not tell
    Column(
        "flags",
        TEXT,
        "load, gpu_load, throttled, low_clock, battery, thermal, suspend, clock_jump, drift; spaced",
        since=2,
    ),
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
    ),
    # where it ran
    Column("node", TEXT, "name of the machine: its host name, or what its fleet calls it"),
    Column(
        "drives_run",
        FLAG,
        "true where the command that drives the run, and Ray's head as a rule, ran on this machine, too",
        since=3,
    ),
    Column("backend", TEXT, "cuda, mps or cpu"),
    Column("device", TEXT, "device asked for, e.g. cuda:0"),
    Column("device_used", TEXT, "device the parameters and outputs were really on"),
    Column("device_name", TEXT, "model of the processor or accelerator"),
    Column("cpu_model", TEXT, "model of the host's processor"),
    Column("n_cores", INTEGER, "physical cores this process may use"),
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
    Column("cellpose_version", TEXT, "version of cellpose"),
    Column("numpy_version", TEXT, "version of numpy"),
    Column("numba_version", TEXT, "version of numba"),
    Column("opencv_version", TEXT, "version of OpenCV"),
    Column("ray_version", TEXT, "version of Ray; null where it was not used"),
)

# What makes two runs the same series: workload, hardware and protocol. Versions explain a change, they do not split.
SERIES = (
    "source", "workload", "protocol", "protocol_version", "variant", "model", "weights", "weights_sha256",
    "size_model_sha256", "image_sha256", "crop", "height_px", "width_px", "batch_size", "diameter_asked_px",
    "node", "device", "device_name", "cpu_model", "n_cores", "arch", "torch_threads",
)  # fmt: skip

# What makes two repetitions the same case of a run; the hardware is the node's.
CASE = (
    "workload", "protocol", "protocol_version", "variant", "model", "weights_sha256", "size_model_sha256",
    "image_sha256", "crop", "height_px", "width_px", "batch_size", "diameter_asked_px", "node", "device",
)  # fmt: skip

# The columns that every row has; null anywhere else means unknown, or that it does not apply.
REQUIRED = (
    "schema_version", "run_id", "case_id", "series_key", "source", "started_at", "role", "phase", "status", "node",
    "device",
)  # fmt: skip

# The first column of each section of the samples, and what the section is about.
SECTIONS = {
    "schema_version": "Who and when",
    "role": "What was timed",
    "workload": "The workload",
    "n_cells": "The check that goes with every time",
    "stage_pass": "The stage pass: parts of a call, and what a device can do at best",
    "peak_rss_bytes": "The memory and energy passes; one column per method, since methods never share an axis",
    "ap50": "The mask pass: agreement with stock cellpose on the CPU of the same node",
    "flags": "What else went on: readings around each repetition, outside its clock",
    "node": "Where it ran",
    "harness_version": "Software",
}

ARROW = pa.schema(
    [pa.field(c.name, c.type, metadata={"meaning": c.meaning, "unit": c.unit or ""}) for c in SAMPLES],
    metadata={"cellbench.schema_version": str(VERSION)},
)

# The same without the meanings: they would be most of a small file.
BARE = pa.schema([pa.field(c.name, c.type) for c in SAMPLES], metadata=ARROW.metadata)

_TYPES = {field.name: field.type for field in ARROW}


def table(samples: Iterable[Sample]) -> pa.Table:
    """Turn samples into an Arrow table of the one schema; an unknown or missing column is a programming error."""
    rows = list(samples)
    for row in rows:
        if missing := [name for name in REQUIRED if row.get(name) is None]:
            raise KeyError(f"columns that every sample has: {missing}")
        if unknown := row.keys() - _TYPES.keys():
            raise KeyError(f"columns that the schema does not know: {sorted(unknown)}")
    return pa.Table.from_pylist(rows, schema=ARROW)


def digest(row: Sample, columns: Iterable[str]) -> str:
    """A short name for what these columns say: equal rows get equal names on every machine."""
    said = json.dumps([[name, row.get(name)] for name in columns])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def version_of(arrow_schema: pa.Schema) -> int | None:
    """The schema version written into a file, or None for a file that is not ours."""
    text = (arrow_schema.metadata or {}).get(b"cellbench.schema_version")
    return int(text) if text else None


def mistyped(found: pa.Schema) -> list[str]:
    """The columns of a file that are here too but hold something else, as 'name: type'."""
    pairs = zip(found.names, found.types, strict=True)
    return [f"{name}: {type_}" for name, type_ in pairs if name in _TYPES and not _reads_as(type_, _TYPES[name])]


def _reads_as(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of one type can be read as another without being changed: 32 bits as 64, dictionaries as text."""
    if found == wanted:
        return True
    if pa.types.is_dictionary(found):
        return _reads_as(found.value_type, wanted)
    if pa.types.is_null(found):
        return True
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
    texts = (pa.types.is_string(t) or pa.types.is_large_string(t) for t in (found, wanted))
    return all(texts) or any(kind(found) and kind(wanted) for kind in kinds)
