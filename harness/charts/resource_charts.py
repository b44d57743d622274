"""The figures of memory and energy, one figure for each method of measuring memory."""

from __future__ import annotations

from harness.charts import line_chart
from harness.charts.figure import Drawing, Figure
from harness.charts.line_chart import Axes, bounds, point
from harness.results import messages, resources
from harness.results.formatting import interval, listed, number, pixels
from harness.results.resources import Method
from harness.results.tables import Tables
from harness.results.text_table import TextTable


def _memory(method: Method) -> Figure:
    """The figure of one method of measuring peak memory, in GB against image length."""

    def draw(tables: Tables) -> Drawing:
        points = [
            point(row, tables.name(row), row[method.column] / resources.GB)
            for row in resources.memory_rows(tables, method)
        ]
        empty = _why_empty(tables, "memory", "peak memory was not measured in this way")
        subtitle = f"Peak memory in GB, lower is better. Dot: one call; {method.note}."
        return line_chart.draw(Axes("GB", unit=" GB"), tables, points, subtitle=subtitle, empty=empty)

    def numbers(tables: Tables) -> dict[str, TextTable]:
        found = resources.memory_rows(tables, method)
        rows = [(tables.name(row), pixels(row), number(row[method.column] / resources.GB)) for row in found]
        return {method.title: TextTable.grouped(("image in px", "GB"), rows)}

    return Figure(
        method.name, method.title, f"peak memory in GB: {method.note}; methods never share an axis", ("memory",),
        draw, numbers, in_report=lambda tables: bool(resources.memory_rows(tables, method)),
        message=lambda tables: messages.largest(
            tables, resources.memory_rows(tables, method), lambda row: f"{number(row[method.column] / resources.GB)} GB"
        ),
    )  # fmt: skip


def draw_energy(tables: Tables) -> Drawing:
    """Joules per image, including idle power, against image length."""
    rows = resources.energy_rows(tables)
    points = [
        point(row, resources.energy_name(tables, row), row["gross_per_call_j"])
        | bounds(row["gross_low_j"], row["gross_high_j"])
        | {"above_idle": f"{number(row['energy_per_call_j'])} J"}
        for row in rows
    ]
    methods = dict.fromkeys(resources.energy_source(row) for row in rows)
    empty = _why_empty(tables, "energy", "energy was not measured")
    spread = "; bar: least to most of several windows" if any(row["n_windows"] > 1 for row in rows) else ""
    subtitle = f"Joules per image, idle included, lower is better. Dot: mean of a window{spread}."
    notes = [*methods, "the power supply and the rest of the machine are not included"] if rows else []
    axes = Axes("Joules per image", "least – most", unit=" J")
    return line_chart.draw(axes, tables, points, subtitle=subtitle, empty=empty, notes=notes)


def _energy_numbers(tables: Tables) -> TextTable:
    rows = [
        (tables.name(row), pixels(row), number(row["gross_per_call_j"]),
         interval(row["gross_low_j"], row["gross_high_j"]), number(row["energy_per_call_j"]),
         number(row["idle_power_w"]), str(row["n_windows"]), str(row["n_calls"]), resources.energy_source(row))
        for row in resources.energy_rows(tables)
    ]  # fmt: skip
    head = ("image in px", "J per image", "least – most", "above idle J", "idle W", "windows", "calls", "by")
    return TextTable.grouped(head, rows)


def _why_empty(tables: Tables, role: str, otherwise: str) -> str:
    reasons = [row["error_message"] for row in tables.skipped.to_pylist() if row["role"] == role]
    known = list(dict.fromkeys(reason for reason in reasons if reason))
    return listed(known, 1) if known else otherwise


MEMORY = tuple(_memory(method) for method in resources.METHODS)
ENERGY = Figure(
    "energy", "Energy to segment one image", "joules of one image, idle included, where the chip has a counter",
    ("energy",), draw_energy, lambda tables: {"Energy": _energy_numbers(tables)},
    in_report=lambda tables: bool(resources.energy_rows(tables)),
    message=lambda tables: messages.largest(
        tables, resources.energy_rows(tables), lambda row: f"{number(row['gross_per_call_j'])} J"
    ),
)  # fmt: skip
