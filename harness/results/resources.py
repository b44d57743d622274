"""Peak memory and energy of the cases; methods of measuring are never mixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.results.formatting import Row
from harness.results.tables import Tables

GB = 1e9


@dataclass(frozen=True)
class Method:
    """One method of measuring peak memory: the figure's name, the column, its rows, and the meaning of its value."""

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
    Method("memory-cuda", "cuda_allocated_bytes", "Peak memory of the GPU", "torch’s allocated tensors"),
    Method(
        "memory-mps", "mps_driver_bytes", "Peak memory of the Apple GPU", "allocated by the Metal driver for torch, "
        "sampled every 5 ms",
    ),
)  # fmt: skip


def memory_rows(tables: Tables, method: Method) -> list[Row]:
    """The rows that were measured with this method."""
    return [row for row in tables.memory.to_pylist() if row[method.column] is not None and method.applies(row)]


def energy_rows(tables: Tables) -> list[Row]:
    """The rows that have an energy."""
    return [row for row in tables.energy.to_pylist() if row["gross_per_call_j"] is not None]


def energy_source(row: Row) -> str:
    """The source of an energy: 'sensor: nvml, the whole board'."""
    return ": ".join(row[name] for name in ("energy_class", "energy_method") if row[name]) or "method unknown"


def energy_name(tables: Tables, row: Row) -> str:
    """The name of a series of energy, with the method where there are several, since they include different parts."""
    several = len({energy_source(each) for each in energy_rows(tables)}) > 1
    return f"{tables.name(row)}, {energy_source(row)}" if several else tables.name(row)
