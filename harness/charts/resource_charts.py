"""Points and words of the figures of memory and energy; each method of measuring has a figure of its own."""

from __future__ import annotations

from harness.charts.line_chart import Figure, point
from harness.results import resources
from harness.results.formatting import Row, listed, number
from harness.results.notes import provenance
from harness.results.resources import Method
from harness.results.tables import Tables


def memory_points(tables: Tables, method: Method) -> list[Row]:
    """Peak memory in GiB against image length."""
    return [
        point(row, tables.name(row), row[method.column] / resources.GIB)
        for row in resources.memory_rows(tables, method)
    ]


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
        point(row, resources.energy_name(tables, row), row["energy_per_call_j"])
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


def _why_empty(tables: Tables, role: str, otherwise: str) -> str:
    reasons = [row["error_message"] for row in tables.skipped.to_pylist() if row["role"] == role]
    known = list(dict.fromkeys(reason for reason in reasons if reason))
    return listed(known, 1) if known else otherwise
