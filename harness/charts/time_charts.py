"""The figures of durations: latency against image length, and the same as serial rate."""

from __future__ import annotations

from harness.charts import encodings, line_chart
from harness.charts.figure import Drawing, Figure
from harness.charts.line_chart import Axes, bounds, other_point, point
from harness.results import many_machines, messages, others, speedups
from harness.results.formatting import Row, interval, number, percent, pixels
from harness.results.notes import notes
from harness.results.tables import Tables
from harness.results.text_table import TextTable

EMPTY = "no repetition was timed"


def draw_time(tables: Tables) -> Drawing:
    """Seconds per image against image length: medians, interquartile ranges and repetitions, linear or logarithmic."""
    own = [
        {**point(row, tables.name(row), row["median_s"]), **bounds(row["q1_s"], row["q3_s"]), **precision(row)}
        for row in many_machines.typical(tables)
    ]
    repetitions, drawn = _repetitions(tables)
    subtitle = (
        f"Seconds per image, lower is better. Dot: median ({sample_sizes(tables)}); bar: IQR; small dots: {drawn}."
        f"{_selection(tables)}"
    )
    by_others = [other_point(row, row["time_s"]) | bounds(row["q1_s"], row["q3_s"]) for row in others.times(tables)]
    return line_chart.draw(
        Axes("Seconds per image", "q1 – q3", unit=" s"), tables, own, by_others, subtitle, EMPTY, repetitions
    )


def draw_throughput(tables: Tables) -> Drawing:
    """Megapixels per second against image length; the tooltip has images per hour."""
    own = [
        {**point(row, tables.name(row), _mpx_per_s(row, row["median_s"])), **_hourly(row["median_s"]), **precision(row)}
        | bounds(_mpx_per_s(row, row["q3_s"]), _mpx_per_s(row, row["q1_s"]))
        for row in many_machines.typical(tables)
    ]
    by_others = [
        other_point(row, _mpx_per_s(row, row["time_s"])) | _hourly(row["time_s"]) for row in others.times(tables)
    ]
    subtitle = f"Megapixels per second, higher is better. Dot: of the median ({sample_sizes(tables)}); bar: IQR."
    subtitle += _selection(tables)
    return line_chart.draw(Axes("Megapixels per second", "of q3 – of q1"), tables, own, by_others, subtitle, EMPTY)


def _selection(tables: Tables) -> str:
    """The lines that a figure of many machines shows, as a sentence; nothing for few machines."""
    if not many_machines.are_many(tables):
        return ""
    return f" Lines: fastest, median and slowest machine of each hardware, of {len(tables.series)} series."


def sample_sizes(tables: Tables) -> str:
    """The number of repetitions per median: 'n = 3', 'n = 3 to 10'."""
    ends = dict.fromkeys(pick(row["n"] for row in tables.cases) for pick in (min, max)) if tables.cases else {0: None}
    return f"n = {' to '.join(map(str, ends))}"


def precision(row: Row) -> Row:
    """Repetitions, precision and flags of a median, as texts for its tooltip."""
    processes = f" in {row['n_blocks']} processes" if row["n_blocks"] > 1 else ""
    return {
        "repetitions": f"{row['n']}{processes} ({row['stop_reason'] or 'end unknown'})",
        "precision": "–" if row["precision"] is None else f"mean ± {100 * row['precision']:.2g} %",
        "flagged": f"{row['n_flagged']} of {row['n']}: {row['flags']}" if row["n_flagged"] else "none",
    }


def _mpx_per_s(row: Row, time_s: float) -> float:
    return row["n_pixels"] / time_s / 1e6


def _hourly(time_s: float) -> Row:
    return {"images_per_hour": number(3600 / time_s)}


def _repetitions(tables: Tables) -> tuple[list[Row], str]:
    """The timed repetitions as points, and their number in words; no points if the figure is crowded."""
    if encodings.is_crowded(tables.series):
        return [], "none, too many series"
    cases = {(row["run_id"], row["case_id"]): row for row in tables.cases}
    timed = [row for row in tables.calls if row["role"] == "timed"]
    points = [
        point(cases[key], tables.name(row), row["elapsed_s"])
        for row in timed
        if (key := (row["run_id"], row["case_id"])) in cases
    ]
    n_all = sum(row["n"] for row in tables.cases)
    return points, "every repetition" if len(points) == n_all else f"{len(points)} of {n_all} repetitions"


def _times(tables: Tables) -> TextTable:
    own = [
        (tables.name(row), pixels(row), str(row["n"]), number(row["median_s"]), interval(row["q1_s"], row["q3_s"]))
        for row in tables.cases
    ]
    by_others = [
        (others.table_name(row), pixels(row), str(row["n"]), number(row["time_s"]), interval(row["q1_s"], row["q3_s"]))
        for row in others.times(tables)
    ]
    return TextTable.grouped(("image in px", "n", "median s", "IQR s"), own + by_others)


def _laws(tables: Tables) -> TextTable:
    """The scaling law of each series: seconds per call, per tile and per megapixel."""
    rows = []
    for each in speedups.laws(tables):
        law, n_sizes = each.law, str(len(each.cases))
        if law is None:
            rows.append((each.series, *["–"] * 4, n_sizes, "none: few sizes, no growth, or tiles not known"))
            continue
        if law.misfit is None:
            fit = "not tested: fewer than three processes"
        else:
            fit = "good" if law.is_good else f"misses {percent(law.misfit, 1)} beyond noise"
        parts = (number(each, 2) for each in law.coefficients)
        rows.append((each.series, *parts, percent(law.relative_error, 1), n_sizes, fit))
    return TextTable(("series", "s a call", "s a tile", "s a Mpx", "off by", "sizes", "fit"), {"": rows})


def _rates(tables: Tables) -> TextTable:
    own = [(tables.name(row), row, row["median_s"]) for row in tables.cases]
    by_others = [(others.table_name(row), row, row["time_s"]) for row in others.times(tables)]
    rows = [
        (name, pixels(row), number(_mpx_per_s(row, time_s)), number(3600 / time_s))
        for name, row, time_s in own + by_others
    ]
    return TextTable.grouped(("image in px", "Mpx/s", "images/h"), rows)


TIME = Figure(
    "time", "Time to segment one image",
    "seconds against image side: median, interquartile range, repetitions; linear ⇄ logarithmic",
    ("medians",), draw_time,
    lambda tables: {"Time": _times(tables), "Fit to tiles and pixels": _laws(tables)}, cautions=notes,
    message=messages.time,
)  # fmt: skip
THROUGHPUT = Figure(
    "throughput", "Serial rate, one image at a time", "megapixels a second, with images an hour", ("medians",),
    draw_throughput, lambda tables: {"Serial rate": _rates(tables)}, cautions=notes, message=messages.rate,
)  # fmt: skip
