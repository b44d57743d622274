"""The figure of lines through points against image length: times, shares and speed-ups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from harness.show import drawing
from harness.show.drawing import GREY

Row = dict[str, Any]

SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES = ([8, 3], [2, 3], [8, 3, 2, 3], [4, 2])
SHOWN = "show_published || !datum.published"
# Ticks of the logarithmic axis, 1 ms to 50,000 s; those outside the data are not drawn.
LOG_TICKS = [round(digit * 10.0**power, 3) for power in range(-3, 5) for digit in (1, 2, 5)]


def point(row: Row, series: str, value: float, is_published: bool = False) -> Row:
    """A point of a figure, from a row that has a size."""
    size = f"{row['height_px']} × {row['width_px']}"
    return {"series": series, "published": is_published, "length": row["length_px"], "size": size, "value": value}


def draw(
    own: list[Row],
    others: list[Row],
    series: tuple[Sequence[str], Sequence[str]],
    *,
    title: str,
    y_title: str,
    notes: list[str],
    empty: str,
    repetitions: list[Row] | None = None,
    baseline: float | None = None,
    log: bool | None = None,
) -> alt.LayerChart:
    """One's own points and the published ones; `series` names all there are of both, so that each keeps its look.

    `log` None is a linear axis from zero; True or False is what a switch between both starts with.
    """
    heading = drawing.heading(title, notes)
    rows = others + own  # one's own are drawn on top
    if not rows:
        return drawing.empty(heading, empty)

    look = _look(*series, {row["series"] for row in rows})
    rows = [row | {"dash": look["dash"].get(row["series"])} for row in rows]
    x, y = _axes(y_title, log)
    base = _on_axis(alt.Chart().encode(x=x, y=y, stroke=look["stroke"]), log)
    lines = base.transform_filter(SHOWN if others else "true")
    layers = [
        lines.mark_line(strokeWidth=1.6, strokeDash=alt.ExprRef("datum.dash")),
        lines.mark_point(size=44, strokeWidth=1.4, opacity=1).encode(
            fill=look["fill"], shape=look["shape"], tooltip=_tooltip(y_title, rows[-1])
        ),
    ]
    if repetitions:
        dots = base.properties(data=alt.Data(values=repetitions))
        ranges = base.transform_filter("!datum.published").encode(y="y_q1:Q", y2="y_q3:Q")
        layers[1:1] = [
            dots.mark_point(shape="circle", size=8, strokeWidth=1.5, opacity=0.4),
            ranges.mark_rule(strokeWidth=4, opacity=0.5),
        ]
    if baseline is not None:
        rule = alt.Chart(alt.Data(values=[{"y": baseline}])).mark_rule(color=GREY, strokeWidth=1)
        layers.insert(0, rule.encode(y="y:Q"))
    chart = alt.layer(*layers, data=alt.Data(values=rows)).add_params(*_switches(log, bool(others)))
    names = ", ".join(dict.fromkeys(row["series"] for row in own + others))
    return drawing.theme(chart, heading, f"{title}. Lines of {y_title} against image length in px for {names}.")


def _look(own: Sequence[str], others: Sequence[str], shown: set[str]) -> dict[str, Any]:
    """Encodings that tell the series apart, the same for a series in every figure, sharing one legend.

    One's own are coloured, solid and filled; the published ones grey, dashed and hollow.
    """
    hues = drawing.HUES
    looks = {
        name: (hue := hues[i % len(hues)], hue, SHAPES[(i + i // len(hues)) % len(SHAPES)])
        for i, name in enumerate(own)
    } | {name: (GREY, "transparent", SHAPES[i % len(SHAPES)]) for i, name in enumerate(others)}
    domain = [name for name in looks if name in shown]
    strokes, fills, shapes = zip(*(looks[name] for name in domain), strict=True)
    legend = drawing.legend()

    def by_series(channel: Any, values: Iterable[Any]) -> Any:
        return channel("series:N", legend=legend, scale=alt.Scale(domain=domain, range=list(values)))

    return {
        "stroke": by_series(alt.Stroke, strokes),
        "fill": by_series(alt.Fill, fills),
        "shape": by_series(alt.Shape, shapes),
        # Not an encoding of its own: a legend would draw the symbols dashed too, and nobody could tell them apart.
        "dash": {name: DASHES[i % len(DASHES)] for i, name in enumerate(others)},
    }


def _tooltip(y_title: str, row: Row) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("series:N", title="series"),
        alt.Tooltip("size:N", title="image in px"),
        alt.Tooltip("value:Q", title=y_title, format=".3~r"),
        *[alt.Tooltip(f"{name}:Q", title=name, format=".3~r") for name in ("q1", "q3") if name in row],
        *[alt.Tooltip(f"{name}:N", title=name) for name in ("repetitions", "precision", "flagged") if name in row],
    ]


def _switches(log: bool | None, with_published: bool) -> list[alt.Parameter]:
    switches = []
    if log is not None:
        radio = alt.binding_radio(options=["linear", "log"], name="Scale: ")
        switches.append(alt.param(name="yscale", value="log" if log else "linear", bind=radio))
    if with_published:
        box = alt.binding_checkbox(name="Show published series ")
        switches.append(alt.param(name="show_published", value=True, bind=box))
    return switches


def _axes(y_title: str, log: bool | None) -> tuple[alt.X, alt.Y]:
    x_axis = alt.Axis(grid=False, tickCount=6, format="d", labelFlush=False)
    x = alt.X("length:Q", title="Image length √(h·w) in px", axis=x_axis, scale=alt.Scale(zero=True))
    powers = ", ".join(f"log({tick}) / LN10" for tick in LOG_TICKS)
    y_axis = alt.Axis(
        values=alt.ExprRef(_by_scale("null", f"[{powers}]", log)),
        tickCount=alt.ExprRef(_by_scale("7", "15", log)),
        labelExpr=f"format({_by_scale('datum.value', 'pow(10, datum.value)', log)}, '.3~r')",
    )
    zero = alt.ExprRef(_by_scale("true", "false", log))
    return x, alt.Y("y:Q", title=y_title, axis=y_axis, scale=alt.Scale(zero=zero))


def _on_axis(chart: alt.Chart, log: bool | None) -> alt.Chart:
    """Add y, y_q1, y_q3: a scale's type cannot be a parameter, so the switch is in the numbers instead."""
    sources = {"y": "value", "y_q1": "q1", "y_q3": "q3"}
    return chart.transform_calculate(
        **{y: _by_scale(f"datum.{source}", f"log(datum.{source}) / LN10", log) for y, source in sources.items()}
    )


def _by_scale(linear: str, logarithmic: str, log: bool | None) -> str:
    return linear if log is None else f"(yscale == 'log' ? {logarithmic} : {linear})"
