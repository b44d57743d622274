"""The figures of memory and energy; each method of measuring has a figure of its own."""

from __future__ import annotations

from harness.charts import line_chart
from harness.charts.figure import Drawing, Figure
from harness.charts.line_chart import Axes, point
from harness.results import resources
from harness.results.formatting import listed, number, pixels
from harness.results.resources import Method
from harness.results.tables import Tables
from harness.results.text_table import TextTable


def _memory(method: Method) -> Figure:
    """The figure of one method of measuring peak memory, in GiB against image length."""

    def draw(tables: Tables) -> Drawing:
        points = [
            point(row, tables.name(row), row[method.column] / resources.GIB)
            for row in resources.memory_rows(tables, method)
        ]
        empty = _why_empty(tables, "memory", "peak memory was not measured in this way")
        return line_chart.draw(Axes("GiB"), tables, points, notes=[method.note, "one call each"], empty=empty)

    def numbers(tables: Tables) -> dict[str, TextTable]:
        found = resources.memory_rows(tables, method)
        rows = [(tables.name(row), pixels(row), number(row[method.column] / resources.GIB)) for row in found]
        return {method.title: TextTable.grouped(("image in px", "GiB"), rows)}

    return Figure(
        method.name, method.title, f"peak memory in GiB: {method.note}; methods never share an axis", ("memory",),
        draw, numbers, in_report=lambda tables: bool(resources.memory_rows(tables, method)),
    )  # fmt: skip


def draw_energy(tables: Tables) -> Drawing:
    """Joules above idle of one image against image length."""
    rows = resources.energy_rows(tables)
    points = [
        point(row, resources.energy_name(tables, row), row["energy_per_call_j"])
        | {"energy": f"{number(row['energy_per_call_j'] / 3600, 2)} Wh per image"}
        for row in rows
    ]
    methods = dict.fromkeys(resources.energy_source(row) for row in rows)
    empty = _why_empty(tables, "energy", "energy was not measured")
    notes = [*methods, "not the wall"] if rows else []
    return line_chart.draw(Axes("Joules above idle"), tables, points, notes=notes, empty=empty)


def _energy_numbers(tables: Tables) -> TextTable:
    rows = [
        (tables.name(row), pixels(row), number(row["energy_per_call_j"]), number(row["idle_power_w"]),
         str(row["n_calls"]), resources.energy_source(row))
        for row in resources.energy_rows(tables)
    ]  # fmt: skip
    return TextTable.grouped(("image in px", "J per image", "idle W", "calls", "by"), rows)


def _why_empty(tables: Tables, role: str, otherwise: str) -> str:
    reasons = [row["error_message"] for row in tables.skipped.to_pylist() if row["role"] == role]
    known = list(dict.fromkeys(reason for reason in reasons if reason))
    return listed(known, 1) if known else otherwise


MEMORY = tuple(_memory(method) for method in resources.METHODS)
ENERGY = Figure(
    "energy", "Energy to segment one image", "joules above idle of one image, where the chip has a counter",
    ("energy",), draw_energy, lambda tables: {"Energy": _energy_numbers(tables)},
    in_report=lambda tables: bool(resources.energy_rows(tables)),
)  # fmt: skip
