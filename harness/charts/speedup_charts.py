"""The figures of an accelerator beside the CPU of its machine: how many times as fast, and the share of its time."""

from __future__ import annotations

from harness.charts import line_chart
from harness.charts.figure import Drawing, Figure
from harness.charts.line_chart import Axes, Law, bounds, point, published_points
from harness.charts.time_charts import precision
from harness.results import speedups
from harness.results.formatting import Row, interval, number, pixels, side
from harness.results.notes import notes
from harness.results.tables import Tables
from harness.results.text_table import TextTable

N_CURVE = 40  # points of a fitted curve
N_LAWS = 2  # scaling laws that a figure draws, so that their words never meet; all stand in the table
EMPTY = "no accelerator was measured here beside its CPU"


def draw_speedup(tables: Tables) -> Drawing:
    """How many times faster an accelerator is than the CPU beside it, and the limit that its scaling law approaches."""
    own = [
        point(row, tables.name(row), row["speedup"]) | bounds(known.low, known.high) | _basis(row, known)
        for row, known in zip(tables.speedup_rows, speedups.intervals(tables), strict=True)
    ]
    found = speedups.laws(tables)
    mine = [each for each in found if not each.is_published]
    laws = [] if len(mine) > N_LAWS else [_law(each) for each in mine or found]
    about = ["dotted: t = a + b · pixels fitted to each device; dashed: the ratio of their b, with its 95 % interval"]
    return line_chart.draw(
        Axes("CPU time ÷ accelerator time", "95 %", baseline=1), tables, own, published_points(tables, "speedup"),
        [_intervals(tables), *(about if laws else [])], EMPTY, laws=laws,
    )  # fmt: skip


def draw_percent_of_cpu(tables: Tables) -> Drawing:
    """An accelerator's time as a percentage of the time of the CPU beside it."""
    own = [
        point(row, tables.name(row), row["percent_of_cpu"])
        | bounds(*(end and 100 / end for end in (known.high, known.low)))
        | _basis(row, known)
        for row, known in zip(tables.speedup_rows, speedups.intervals(tables), strict=True)
    ]
    published = published_points(tables, "percent_of_cpu")
    axes = Axes("% of CPU time", "95 %", baseline=100)
    return line_chart.draw(axes, tables, own, published, [_intervals(tables)], EMPTY)


def _basis(row: Row, known: speedups.Interval) -> Row:
    return {"basis": known.basis, **precision(row)}


def _intervals(tables: Tables) -> str:
    """What the intervals of the ratios are made of."""
    if not tables.speedup_rows:
        return "no accelerator was measured here"
    bases = {known.basis for known in speedups.intervals(tables)}
    if bases == {"processes"}:
        return "ratio of medians with the 95 % interval between processes"
    within = "within one process each: other processes may differ by more"
    return f"ratio of medians with its 95 % interval, {within}"


def _law(each: speedups.SeriesSpeedup) -> Law:
    lengths = [each.fast.bounds_mpx[1] ** 0.5 * (i + 0.5) / N_CURVE for i in range(N_CURVE)]
    times_s = [(length, each.slow.at(length**2), each.fast.at(length**2)) for length in lengths]
    # A line that is fitted to large images may lie below zero at small ones.
    points = [
        {"length": 1000 * length, "value": slow_s / fast_s} for length, slow_s, fast_s in times_s if slow_s > 0 < fast_s
    ]
    gain = each.gain
    # An interval far wider than its estimate would flatten everything else; then it stands in the words alone.
    low, high = (gain.limit_low, gain.limit_high) if speedups.is_narrow(gain) else (None, None)
    text = ("published\n" if each.is_published else "") + speedups.limit_text(gain)
    return Law(each.series, each.backend, each.is_published, points, gain.limit, low, high, text)


def _ratios(tables: Tables) -> TextTable:
    """The numbers of both figures."""
    own = [
        (tables.name(row), row, row["median_s"], interval(known.low, known.high))
        for row, known in zip(tables.speedup_rows, speedups.intervals(tables), strict=True)
    ]
    published = [(f"{row['series']}: means", row, row["mean_s"], "–") for row in published_points(tables, "speedup")]
    rows = [
        (
            name, pixels(row), number(time_s), number(row.get("cpu_median_s") or row["cpu_mean_s"]),
            number(row["percent_of_cpu"]), number(row["speedup"]), known,
        )
        for name, row, time_s, known in own + published
    ]  # fmt: skip
    return TextTable.grouped(("image in px", "accelerator s", "CPU s", "% of CPU time", "speed-up", "95 %"), rows)


def _limits(tables: Tables) -> TextTable:
    """What each speed-up approaches, from where on it is near, and where accelerator and CPU break even."""
    rows = []
    for each in speedups.laws(tables):
        gain = each.gain
        low, high = gain.break_even_low_mpx, gain.break_even_high_mpx
        even = "never" if gain.break_even_mpx is None else side(gain.break_even_mpx)
        rows.append(
            (
                each.series, f"{number(gain.limit)}×", interval(gain.limit_low, gain.limit_high),
                side(gain.near_mpx), even, interval(low, high, side),
            )
        )  # fmt: skip
    return TextTable(("series", "limit", "95 %", "within a tenth of it from", "break-even", "95 %"), {"": rows})


SPEEDUP = Figure(
    "speedup", "Speed-up over the CPU of the same machine",
    "CPU median ÷ accelerator median with its 95 % interval; the fitted laws and the limit that they approach",
    ("speedups",), draw_speedup, lambda tables: {"Speed-up": _ratios(tables), "Its limit": _limits(tables)},
    # Without an accelerator, the published ones are an answer of a kind.
    in_report=lambda tables: bool(tables.speedup_rows) or tables.published is not None, cautions=notes,
)  # fmt: skip
PERCENT_OF_CPU = Figure(
    "percent-of-cpu", "Accelerator time as a share of CPU time", "the same as a share of the CPU's time",
    ("speedups",), draw_percent_of_cpu, lambda tables: {"Share of CPU time": _ratios(tables)}, cautions=notes,
)  # fmt: skip
