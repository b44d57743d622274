"""The figures of an accelerator compared with the CPU of its machine: speed-up, and share of the CPU's time."""

from __future__ import annotations

from harness.charts import line_chart
from harness.charts.figure import Drawing, Figure
from harness.charts.line_chart import Axes, bounds, other_point, point
from harness.charts.time_charts import precision
from harness.results import messages, others, speedups
from harness.results.formatting import Row, interval, number, pixels
from harness.results.notes import notes
from harness.results.tables import Tables
from harness.results.text_table import TextTable

EMPTY = "no accelerator was measured here together with its CPU"


def draw_speedup(tables: Tables) -> Drawing:
    """The time of the CPU of a machine over that of its accelerator, against image length."""
    own = [
        point(row, tables.name(row), row["speedup"]) | bounds(known.low, known.high) | _basis(row, known)
        for row, known in zip(tables.speedup_rows, speedups.intervals(tables), strict=True)
    ]
    axes = Axes("CPU time ÷ accelerator time", "95 %", is_interval=True, baseline=1, unit="×")
    published = [other_point(row, row["speedup"]) for row in others.of_article(tables, are_ratios=True)]
    subtitle = f"CPU time ÷ accelerator time, higher is better. {_intervals(tables)}"
    return line_chart.draw(axes, tables, own, published, subtitle, EMPTY)


def draw_percent_of_cpu(tables: Tables) -> Drawing:
    """An accelerator's time as a percentage of the time of the CPU of its machine, against image length."""
    own = [
        point(row, tables.name(row), row["percent_of_cpu"])
        | bounds(*(end and 100 / end for end in (known.high, known.low)))
        | _basis(row, known)
        for row, known in zip(tables.speedup_rows, speedups.intervals(tables), strict=True)
    ]
    published = [other_point(row, row["percent_of_cpu"]) for row in others.of_article(tables, are_ratios=True)]
    axes = Axes("% of CPU time", "95 %", is_interval=True, baseline=100, unit=" %")
    subtitle = f"Accelerator time as a share of CPU time, lower is better. {_intervals(tables)}"
    return line_chart.draw(axes, tables, own, published, subtitle, EMPTY)


def _basis(row: Row, known: speedups.Interval) -> Row:
    return {"basis": known.basis, **precision(row)}


def _intervals(tables: Tables) -> str:
    """The sentence that explains the dots and lines of the ratios."""
    with_interval = {known.low is not None for known in speedups.intervals(tables)}
    few = "no interval below 3 processes"
    if True not in with_interval:
        return f"Dot: ratio of medians; {few}."
    return f"Dot: ratio of medians; line: 95 % interval{f'; {few}' if False in with_interval else ''}."


def _ratios(tables: Tables) -> TextTable:
    """The table of both figures."""
    own = [
        (tables.name(row), row, row["median_s"], interval(known.low, known.high))
        for row, known in zip(tables.speedup_rows, speedups.intervals(tables), strict=True)
    ]
    published = [
        (others.table_name(row), row, row["time_s"], "–") for row in others.of_article(tables, are_ratios=True)
    ]
    rows = [
        (
            name, pixels(row), number(time_s), number(row.get("cpu_median_s") or row["cpu_mean_s"]),
            number(row["percent_of_cpu"]), number(row["speedup"]), known,
        )
        for name, row, time_s, known in own + published
    ]  # fmt: skip
    return TextTable.grouped(("image in px", "accelerator s", "CPU s", "% of CPU time", "speed-up", "95 %"), rows)


def _trends(tables: Tables) -> TextTable:
    """The change of each speed-up with image size, and the sizes from which the accelerator is faster."""

    def px(length: float | None) -> str:
        return "–" if length is None else f"{length:.0f} px"

    rows = []
    for each in speedups.by_size(tables):
        found, change = each.trend, each.trend.change
        between = "–" if change is None else f"{number(change[0])}× ({number(change[1])}–{number(change[2])})"
        rows.append(
            (
                each.series, str(each.n_processes), found.word, px(found.from_px), px(found.to_px), between,
                px(each.crossing.slower_to_px), px(each.crossing.faster_from_px),
            )
        )  # fmt: skip
    head = ("series", "processes", "speed-up", "from", "to", "grows by (at least 95 %)", "slower up to", "faster from")
    return TextTable(head, {"": rows})


SPEEDUP = Figure(
    "speedup", "Speed-up over the CPU of the same machine",
    "CPU median ÷ accelerator median with its 95 % interval, from three processes on",
    ("speedups",), draw_speedup, lambda tables: {"Speed-up": _ratios(tables), "With image size": _trends(tables)},
    cautions=notes, message=messages.speedup,
)  # fmt: skip
PERCENT_OF_CPU = Figure(
    "percent-of-cpu", "Accelerator time as a share of CPU time", "the same as a share of the CPU's time",
    ("speedups",), draw_percent_of_cpu, lambda tables: {"Share of CPU time": _ratios(tables)}, cautions=notes,
)  # fmt: skip
