"""Points and words of the figures of memory and energy; each method of measuring has a figure of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.show.linechart import Figure, point
from harness.show.notes import provenance
from harness.show.tables import Tables
from harness.show.wording import Row, listed, number

GIB = 2**30


@dataclass(frozen=True)
class Method:
    """One way of measuring peak memory: the figure's name, the column, which rows, and what it counts."""

    name: str
    column: str
    title: str
    note: str
    applies: Callable[[Row], bool] = lambda row: True


METHODS = (
    Method(
        "memory", "peak_rss_bytes", "Peak memory of the process", "resident memory, the kernel’s own peak (VmHWM)",
        lambda row: row["rss_method"] == "VmHWM",
    ),
    Method(
        "memory-sampled", "peak_rss_bytes", "Peak memory of the process, sampled",
        "resident memory, sampled every 5 ms: a short peak may be missed", lambda row: row["rss_method"] != "VmHWM",
    ),
    Method("memory-cuda", "cuda_allocated_bytes", "Peak memory of the CUDA device", "torch’s allocated tensors"),
    Method(
        "memory-mps", "mps_driver_bytes", "Peak memory of the Apple GPU", "allocated by the Metal driver for torch, "
        "sampled every 5 ms",
    ),
)  # fmt: skip


def memory_rows(tables: Tables, method: Method) -> list[Row]:
    """The rows that were measured in this way."""
    return [row for row in tables.memory.to_pylist() if row[method.column] is not None and method.applies(row)]


def memory_points(tables: Tables, method: Method) -> list[Row]:
    """Peak memory in GiB against image length."""
    return [point(row, tables.name(row), row[method.column] / GIB) for row in memory_rows(tables, method)]


def memory_figure(tables: Tables, method: Method) -> Figure:
    """The words of a figure of memory."""
    return Figure(
        method.title,
        "GiB",
        [method.note, "one call each", *provenance(tables)],
        _why_empty(tables, "memory", "peak memory was not measured in this way"),
    )


def energy_points(tables: Tables) -> list[Row]:
    """Joules above idle of one image against image length."""
    return [
        point(row, _energy_name(tables, row), row["energy_per_call_j"])
        | {"images_per_hour": f"{number(row['energy_per_call_j'] / 3600, 2)} Wh per image"}
        for row in tables.energy.to_pylist()
    ]


def energy_figure(tables: Tables) -> Figure:
    """The words of the figure of energy."""
    rows = tables.energy.to_pylist()
    methods = [f"{row['energy_class']}: {row['energy_method']}" for row in rows]
    return Figure(
        "Energy to segment one image",
        "Joules above idle",
        [*dict.fromkeys(methods), "not the wall", *provenance(tables)] if rows else provenance(tables),
        _why_empty(tables, "energy", "energy was not measured"),
    )


def energy_series(tables: Tables) -> list[str]:
    """The names of the series of energy; how it was measured is part of them, since methods count different parts."""
    return list(dict.fromkeys(_energy_name(tables, row) for row in tables.energy.to_pylist()))


def _energy_name(tables: Tables, row: Row) -> str:
    return f"{tables.name(row)}, {row['energy_method']}"


def _why_empty(tables: Tables, role: str, otherwise: str) -> str:
    reasons = [row["error_message"] for row in tables.skipped.to_pylist() if row["role"] == role]
    known = list(dict.fromkeys(reason for reason in reasons if reason))
    return listed(known, 1) if known else otherwise
