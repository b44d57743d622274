"""The figure of history: a strip for each series, with the times of its runs relative to the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import altair as alt

from harness.charts import rendering
from harness.charts.encodings import by_style
from harness.charts.figure import Drawing, Figure
from harness.charts.history_chart import STATES, mark, time_axis
from harness.charts.rendering import GREY
from harness.judge.history import Series
from harness.results import history_rows, messages
from harness.results.formatting import (
    Row,
    deviation,
    interval,
    line_namer,
    number,
    percent,
    seconds,
    signed,
    size_label,
)
from harness.results.tables import Tables
from harness.results.text_table import TextTable

N_SERIES = 8  # the most that a figure draws: by urgency, then by the largest change
N_RUNS = 120  # the most per series that a figure draws: the newest
BAND_PX = 92
REACHES = (0.1, 0.25, 0.5, 1.0)  # half-heights of a strip as a share of the baseline; the first that fits all values
FILLED = 0.72  # the used share of a strip's height
MARK_NOTES = {
    "version": "grey dashes: other software than the run before",
    "level": "dotted: the level changed",
    "accepted": "green: an accepted change, where a new baseline starts",
}


@dataclass(frozen=True)
class Strip:
    """One drawn series. reference_s: the time at 0 %. rows: one per run."""

    name: str
    reference_s: float
    rows: list[Row]


def draw(tables: Tables) -> Drawing:
    """Deviation from the baseline against the date, with the expected band, states, versions and resets."""
    shown = strips(tables)
    if not shown:
        return Drawing(None, "", "no case of these was measured in more than one run")
    reach = _reach(shown)
    rows = [row for i, strip in enumerate(shown) for row in _placed(strip, len(shown) - 1 - i, reach)]
    description = f"A dot a run for {', '.join(strip.name for strip in shown)}."
    chart = alt.layer(*_layers(shown, rows, reach))
    subtitle = f"Change from the baseline, ±{percent(reach)} a strip. Dot: a run (median of its processes’ medians)."
    return Drawing(chart, subtitle, description, BAND_PX * len(shown), _notes(tables, rows))


def strips(tables: Tables) -> list[Strip]:
    """The strips of the chosen series, at most N_RUNS runs each."""
    name = line_namer([series.last.place for series in tables.history])
    runs = history_rows.runs_of(tables.history)

    def title(series: Series) -> str:  # size first, because a narrow screen truncates the name
        return f"{size_label(series.last.place)} · {name(series.last.place)}"

    return [
        Strip(title(series), _reference_s(series), history_rows.rows(series, 1, runs)[-N_RUNS:])
        for series in chosen(tables)
    ]


def chosen(tables: Tables) -> list[Series]:
    """The N_SERIES series to draw, by urgency and then by the largest change, in the order of the other figures."""
    moved = sorted(tables.history, key=lambda series: (history_rows.rank(series), -_moved(series)))[:N_SERIES]
    return [series for series in tables.history if series in moved]


def _moved(series: Series) -> float:
    reference_s = _reference_s(series)
    return max(abs(point.value / reference_s - 1) for point in series.points)


def _reference_s(series: Series) -> float:
    """The baseline of the last run that has one, in s; without any, the median of all runs."""
    known = [point.judged.band.middle for point in series.points if point.judged.band]
    return known[-1] if known else median(point.value for point in series.points)


def _reach(shown: Sequence[Strip]) -> float:
    """The half-height of all strips as a share of the baseline; larger deviations are drawn at the edge."""
    ends = [
        abs(row[column] / strip.reference_s - 1)
        for strip in shown
        for row in strip.rows
        for column in ("value", "low", "high")
        if row[column] is not None
    ]
    return next((reach for reach in REACHES if max(ends) <= reach), REACHES[-1])


def _placed(strip: Strip, centre: int, reach: float) -> list[Row]:
    """The rows of a strip with their vertical positions in the figure. centre: of the strip."""

    def height(value: float | None) -> float | None:
        if value is None:
            return None
        return centre + FILLED * max(-1.0, min(1.0, (value / strip.reference_s - 1) / reach)) / 2

    return [
        {name: row[name] for name in ("at", "run", "state", "text", *MARK_NOTES)}
        | {
            "strip": strip.name, "y": height(row["value"]), "y_low": height(row["low"]), "y_high": height(row["high"]),
            "bottom": centre - FILLED / 2, "top": centre + FILLED / 2,
            "off": deviation(row["value"], strip.reference_s),
            "beyond": row["value"] is not None and abs(row["value"] / strip.reference_s - 1) > reach,
        }
        for row in strip.rows
    ]  # fmt: skip


def _notes(tables: Tables, rows: Sequence[Row]) -> list[str]:
    notes = []
    if any(row["y_low"] is not None for row in rows):
        notes.append("shaded: where a run was expected, by those before it (99.9\u00a0% to either side)")
    else:
        notes.append("too few runs for a baseline")
    notes += [text for column, text in MARK_NOTES.items() if any(row[column] for row in rows)]
    if beyond := sum(row["beyond"] for row in rows):
        notes.append(f"{beyond} beyond the strip are drawn at its edge")
    if (n := len(tables.history)) > N_SERIES:
        notes.append(f"{N_SERIES} of {n} series: those that need a look first, then those that moved most")
    if any(len(series.points) > N_RUNS for series in tables.history):
        notes.append(f"the newest {N_RUNS} runs")
    return notes


def _layers(shown: Sequence[Strip], rows: list[Row], reach: float) -> list[alt.Chart]:
    scale = alt.Scale(domain=[-0.5, len(shown) - 0.5], nice=False, zero=False)
    # The padding at both ends keeps dots off the labels of the levels.
    axis = alt.Axis(grid=False, **time_axis([datetime.fromisoformat(row["at"]) for row in rows]))
    x = alt.X("at:T", title=None, axis=axis, scale=alt.Scale(padding=8))

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", axis=None, scale=scale)

    levels = [
        {"y": len(shown) - 1 - i + FILLED * level / 2, "label": signed(level * reach) if level else usual}
        for i, strip in enumerate(shown)
        for level, usual in ((-1, ""), (0, seconds(strip.reference_s)), (1, ""))
    ]
    names = [{"y": len(shown) - 1 - i + FILLED / 2, "strip": strip.name} for i, strip in enumerate(shown)]
    marks = alt.Chart(rendering.data(levels)).encode(y=y("y"))
    base = alt.Chart(rendering.data(rows)).encode(x=x, detail="strip:N")
    band = base.mark_area(opacity=0.16, color=rendering.HUES[0]).encode(y=y("y_low"), y2="y_high:Q")
    return [
        marks.mark_rule(color=GREY, strokeWidth=0.7, opacity=0.5),
        marks.mark_text(align="right", dx=-4, fontSize=10).encode(x=alt.value(0), text="label:N"),
        alt.Chart(rendering.data(names))
        .mark_text(align="left", dx=2, dy=-9, fontSize=12, limit=alt.ExprRef("width"))
        .encode(y=y("y"), x=alt.value(0), text="strip:N"),
        # Vega prints a warning about a layer without rows.
        *([band] if any(row["y_low"] is not None for row in rows) else []),
        *(
            mark(base, column).encode(y=y("bottom"), y2="top:Q")
            for column in MARK_NOTES
            if any(row[column] for row in rows)
        ),
        base.mark_line(color=GREY, strokeWidth=1).encode(y=y("y")),
        _points(base, rows).encode(y=y("y")),
    ]


def _points(base: alt.Chart, rows: Sequence[Row]) -> alt.Chart:
    styles = {state: style for state, style in STATES.items() if any(row["state"] == state for row in rows)}
    fields = {"strip": "series", "run": "run", "text": "median", "off": "off the baseline", "state": "state"}
    points = base.transform_filter("isValid(datum.y)").mark_point(filled=True, size=46, opacity=1)
    return points.encode(
        color=by_style(alt.Color, "state", styles, 0),
        shape=by_style(alt.Shape, "state", styles, 1),
        tooltip=[alt.Tooltip(f"{name}:N", title=title) for name, title in fields.items()],
    )


def _numbers(tables: Tables) -> TextTable:
    """The values of the strips, one row per run."""
    rows = [
        (
            strip.name, row["run"], number(row["value"]), deviation(row["value"], strip.reference_s),
            interval(row["low"], row["high"]), row["state"],
            "; ".join(row[column] for column in MARK_NOTES if row[column]) or "–",
        )
        for strip in strips(tables)
        for row in strip.rows
        if row["value"] is not None
    ]  # fmt: skip
    return TextTable.grouped(("run", "median s", "off the baseline", "expected s", "state", "notes"), rows)


HISTORY = Figure(
    "history", "History of each case and its baseline",
    "each case over its runs, with the expected time; alarms, accepted changes, other software and "
    "changes of level are marked; at most eight series, those that need a look first",
    ("history",), draw, lambda tables: {"History": _numbers(tables)},
    message=messages.history,
)  # fmt: skip
