"""The figure of one series over time: one specification, which the page fills with the rows of each series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import altair as alt

from harness.charts import rendering
from harness.charts.rendering import GREY, HUES
from harness.schema import Row

BLUE, VERMILLION, GREEN, PINK, VIOLET = HUES
# State of a run → hue and shape of its point. Both encode the state, and a text below the title repeats it.
STATES = {
    "usual": (GREY, "circle"),
    "learning": (GREY, "square"),
    "noisy": (VIOLET, "cross"),
    "dismissed": (BLUE, "circle"),
    "suspect": (VERMILLION, "triangle-up"),
    "alarm": (VERMILLION, "diamond"),
    "improvement": (GREEN, "diamond"),
}
# Events of a run → colour and dashes of the vertical line at the run.
MARKS = {"version": (GREY, [3, 3]), "level": (VIOLET, [1, 3]), "accepted": (GREEN, [1, 0])}
HEIGHT_PX = 130
N_TICKS = 4
# Maximum length of an axis in days → format of its ticks.
LABELS = ((0.0, "%b %d"), (0.75, "%H:%M"), (2.0, "%b %d, %H:%M"), (300.0, "%b %d"), (math.inf, "%Y-%m"))


def draw(rows: list[Row], unit: str) -> rendering.Layered:
    """A line of the values with the band of the baseline, states and marks.

    rows: at, value, low, high, state, run, text, and the columns of MARKS; a null breaks the line. unit: of the values.
    """
    moments = [datetime.fromisoformat(row["at"]) for row in rows]
    axis = alt.Axis(grid=False, **time_axis(moments))
    base = alt.Chart().encode(x=alt.X("at:T", title=None, axis=axis))
    y = alt.Y("value:Q", title=unit, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4, format=",.4~r"))
    states = list(STATES)
    colours, shapes = zip(*STATES.values(), strict=True)
    points = base.transform_filter("isValid(datum.value)").mark_point(filled=True, size=46, opacity=1)
    layers = [
        base.mark_area(opacity=0.16, color=BLUE).encode(y=alt.Y("low:Q", scale=alt.Scale(zero=False)), y2="high:Q"),
        *(mark(base, column) for column in MARKS),
        base.mark_line(color=GREY, strokeWidth=1).encode(y=y),
        points.encode(
            y=y,
            color=alt.Color("state:N", scale=alt.Scale(domain=states, range=list(colours)), legend=None),
            shape=alt.Shape("state:N", scale=alt.Scale(domain=states, range=list(shapes)), legend=None),
            tooltip=[alt.Tooltip("run:N"), alt.Tooltip("text:N", title="value"), alt.Tooltip("state:N")],
        ),
    ]
    chart = alt.layer(*layers, data=rendering.data(rows))
    return rendering.theme(chart, alt.TitleParams([""]), "One series over time", HEIGHT_PX)


def time_axis(moments: Sequence[datetime]) -> dict[str, Any]:
    """Options of Vega's axis of time: ticks at runs, at most N_TICKS, each with a unique label."""
    moments = sorted(moments)
    days = (moments[-1] - moments[0]).total_seconds() / 86_400 if moments else 0.0
    label = next(label for limit, label in LABELS if days <= limit)
    by_label = {moment.astimezone().strftime(label): moment for moment in reversed(moments)}
    ticks = sorted(by_label.values())
    if len(ticks) > N_TICKS:
        ticks = [ticks[round(i * (len(ticks) - 1) / (N_TICKS - 1))] for i in range(N_TICKS)]
    values = [round(moment.timestamp() * 1000) for moment in ticks]
    return {"values": values, "format": label, "labelOverlap": "greedy", "labelSeparation": 8, "labelFlush": True}


def mark(base: alt.Chart, column: str) -> alt.Chart:
    """A vertical line at each run that has a value in this column of MARKS."""
    colour, dash = MARKS[column]
    rule = base.transform_filter(f"datum.{column} != null").mark_rule(color=colour, strokeWidth=1.5, aria=True)
    return rule.encode(strokeDash=alt.value(dash), tooltip=[alt.Tooltip(f"{column}:N")])
