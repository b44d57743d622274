"""The figure of other models' time compared with the default model's, with the accuracy of each on drawn images."""

from __future__ import annotations

from harness.charts import line_chart
from harness.charts.figure import Drawing, Figure
from harness.charts.line_chart import Axes, bounds, point
from harness.charts.time_charts import precision
from harness.engines import registry
from harness.results import messages, model_costs
from harness.results.formatting import interval, number, pixels
from harness.results.notes import notes
from harness.results.tables import Tables
from harness.results.text_table import TextTable

EMPTY = "no other model was measured together with the default one on the same device"
SUBTITLE = "Each model called as documented. Dot: ratio of medians; line: 95 % interval, from 3 processes on."


def draw(tables: Tables) -> Drawing:
    """The time of other models over that of the default model, by size; one line per series."""
    own = [
        point(each.row, tables.name(each.row), each.known.value)
        | bounds(each.known.low, each.known.high)
        | {"basis": each.known.basis, **precision(each.row)}
        for each in model_costs.costs(tables)
    ]
    axes = Axes(f"time ÷ time of {registry.default_model()}", "95 %", is_interval=True, baseline=1, unit="×")
    return line_chart.draw(axes, tables, own, (), SUBTITLE, EMPTY)


def _ratios(tables: Tables) -> TextTable:
    rows = [
        (
            tables.name(each.row), pixels(each.row), number(each.row["median_s"]), number(each.base["median_s"]),
            number(each.known.value), interval(each.known.low, each.known.high),
        )
        for each in model_costs.costs(tables)
    ]  # fmt: skip
    return TextTable.grouped(("image in px", "s", f"s of {registry.default_model()}", "ratio", "95 %"), rows)


def _accuracy(tables: Tables) -> TextTable:
    """The table of average precision and F1 against the drawn cells."""
    rows = [
        (
            tables.name(row), pixels(row), str(found["truth_n_cells"]), str(found["n_cells"]),
            *(number(found[name]) for name in ("truth_ap50", "truth_ap75", "truth_ap90", "truth_f1")),
        )
        for row, found in model_costs.accuracies(tables)
    ]  # fmt: skip
    return TextTable.grouped(("image in px", "cells drawn", "found", "AP@0.5", "AP@0.75", "AP@0.9", "F1"), rows)


MODEL_COST = Figure(
    "model-cost", "What another model costs",
    "another model’s median ÷ the default model’s on the same device, by size, with its 95 % interval, from three "
    "processes on; accuracy against drawn cells",
    ("medians", "agreement"), draw, lambda tables: {"Cost": _ratios(tables), "Accuracy": _accuracy(tables)},
    in_report=lambda tables: bool(model_costs.costs(tables)), cautions=notes,
    message=messages.model_cost,
)  # fmt: skip
