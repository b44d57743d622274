"""The figure of lines through points against image length: times, ratios, throughput, memory, energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from harness.charts import encodings, rendering
from harness.charts.encodings import Encodings
from harness.charts.figure import Drawing
from harness.charts.rendering import GREY
from harness.query import reference_timings
from harness.results import speedups
from harness.results.formatting import Row, interval, listed, number, pixels
from harness.results.tables import Tables

SHOWN = "show_published || !datum.published"
FAINT = 0.08
ALL = "all"  # of the list of series to highlight
# What the layers read of a point; the rest is for the tooltip, as text.
DRAWN = ("series", "kind", "published", "length", "value", "low", "high", "dash")
TEXTS = ("images_per_hour", "above_idle", "repetitions", "precision", "flagged", "basis")
# Ticks of the logarithmic axis, 1 µs to 50,000,000 s; those outside the data are not drawn.
LOG_TICKS = [round(digit * 10.0**power, 6) for power in range(-6, 8) for digit in (1, 2, 5)]


@dataclass(frozen=True)
class Axes:
    """What the figures of lines do not share.

    range_title: what lies between low and high of a point. baseline: where a rule goes across. log None is a linear
    axis from zero; True or False is what a switch between both starts with.
    """

    y_title: str
    range_title: str = "range"
    baseline: float | None = None
    log: bool | None = None


def point(row: Row, series: str, value: float, is_published: bool = False) -> Row:
    """A point of a figure, from a row that has a size."""
    return {
        "series": series, "kind": row["backend"] or "unknown", "published": is_published,
        "length": round(row["n_pixels"] ** 0.5, 1), "size": pixels(row), "value": value, "text": number(value),
    }  # fmt: skip


def bounds(low: float | None, high: float | None) -> Row:
    """The ends of a point's range, None where they are unknown, and the range in words."""
    return {"low": low, "high": high, "range": interval(low, high)}


def published_points(tables: Tables, column: str) -> list[Row]:
    """The published series as points: means where `column` is mean_s, else ratios to the CPU."""
    if tables.published is None:
        return []
    means = tables.published if column == "mean_s" else reference_timings.speedups(tables.published)
    rows = [row | {"n_pixels": row["height_px"] * row["width_px"]} for row in means.to_pylist()]
    return [row | point(row, speedups.published_name(row), row[column], is_published=True) for row in rows]


def draw(
    axes: Axes,
    tables: Tables,
    own: Sequence[Row],
    published: Sequence[Row] = (),
    notes: Sequence[str] = (),
    empty: str = "",
    repetitions: Sequence[Row] = (),
) -> Drawing:
    """One's own points and the published ones, each series with the encodings that it has in every figure.

    empty: why there is nothing to draw.
    """
    points = [*published, *own]  # one's own are drawn on top
    if not points:
        return Drawing(None, notes, empty)
    shown = list(dict.fromkeys(row["series"] for row in [*own, *published]))
    crowded = encodings.is_crowded(tables.series)
    if crowded:
        encoded = encodings.of_kinds(points)
    else:
        every = dict.fromkeys(row["series"] for row in published_points(tables, "mean_s"))
        encoded = encodings.of_series(tables.series, list(every), shown)
    tooltip = _tooltip(axes, points)
    # A point that lacks what others tell of themselves tells a dash.
    rows: list[Row] = []
    for row in points:
        values: Row = {**dict.fromkeys(tooltip, "–"), **row, "dash": encoded.dashes.get(row["series"])}
        rows.append({name: values.get(name) for name in (*DRAWN, *tooltip)})
    layer = _Layers(axes, encoded, tooltip, crowded, bool(published), len(shown) > 1)
    layers = [*_baseline(axes), layer.lines(), *layer.spread(rows, repetitions), layer.points()]
    chart = alt.layer(*layers, data=rendering.data(rows)).add_params(*_switches(axes.log, bool(published), shown))
    named = listed(shown, 2 * encodings.MANY)
    return Drawing(chart, notes, f"Lines of {axes.y_title} against image length in px for {named}.")


@dataclass(frozen=True)
class _Layers:
    """The layers of one figure, which share axes, encodings and the choice of what is highlighted."""

    axes: Axes
    encoded: Encodings
    tooltip: Mapping[str, str]
    crowded: bool
    with_published: bool
    choosable: bool

    def lines(self) -> alt.Chart:
        lines = self._base().mark_line(strokeWidth=1 if self.crowded else 1.6, strokeDash=alt.ExprRef("datum.dash"))
        return lines.encode(opacity=self._opacity(0.45 if self.crowded else 1.0), detail="series:N")

    def points(self) -> alt.Chart:
        dots = self._base().mark_point(size=22 if self.crowded else 44, strokeWidth=1.4)
        dots = dots.encode(
            fill=self.encoded.fill,
            shape=self.encoded.shape,
            tooltip=[alt.Tooltip(f"{name}:N", title=title) for name, title in self.tooltip.items()],
            opacity=self._opacity(0.7 if self.crowded else 1.0),
        )
        # One layer holds the selection, the others ask for it by name.
        picked = alt.selection_point(name="picked", fields=[self.encoded.field], bind="legend")
        return dots.add_params(picked) if self.choosable else dots

    def spread(self, rows: Sequence[Row], repetitions: Sequence[Row]) -> list[alt.Chart]:
        """Every repetition, and the range of each point."""
        layers = []
        if repetitions:
            dots = self._base().properties(data=rendering.data(list(repetitions)))
            layers.append(dots.mark_point(shape="circle", size=8, strokeWidth=1.5).encode(opacity=self._opacity(0.4)))
        if any(row["low"] is not None for row in rows):
            ranges = self._base().transform_filter("isValid(datum.low)").encode(y="y_low:Q", y2="y_high:Q")
            width = 2 if self.crowded else 4
            layers.append(ranges.mark_rule(strokeWidth=width).encode(opacity=self._opacity(0.5)))
        return layers

    def _base(self, values: Sequence[Row] | None = None) -> alt.Chart:
        """A chart on the axes; without values it takes those of the whole figure."""
        x, y = _channels(self.axes)
        data = alt.Undefined if values is None else rendering.data(list(values))
        chart = _on_axis(alt.Chart(data).encode(x=x, y=y, stroke=self.encoded.stroke), self.axes.log)
        return chart.transform_filter(SHOWN) if self.with_published else chart

    def _opacity(self, value: float) -> Any:
        if not self.choosable:
            return alt.value(value)
        highlighted = f"highlight == '{ALL}' || datum.series == highlight"
        chosen = {"test": {"and": [{"param": "picked"}, highlighted]}, "value": value}
        return alt.OpacityValue(min(FAINT, value), condition=chosen)


def _baseline(axes: Axes) -> list[alt.Chart]:
    if axes.baseline is None:
        return []
    rule = alt.Chart(rendering.data([{"y": axes.baseline}])).mark_rule(color=GREY, strokeWidth=1)
    return [rule.encode(y="y:Q")]


def _tooltip(axes: Axes, points: Sequence[Row]) -> dict[str, str]:
    """The fields of the tooltip with their titles; those that no point has are left out."""
    fields = {"series": "series", "size": "image in px", "text": axes.y_title, "range": axes.range_title}
    fields |= {name: name.replace("_", " ") for name in TEXTS}
    return {name: title for name, title in fields.items() if any(name in row for row in points)}


def _switches(log: bool | None, with_published: bool, shown: Sequence[str]) -> list[alt.Parameter]:
    switches = []
    if log is not None:
        radio = alt.binding_radio(options=["linear", "log"], name="Scale: ")
        switches.append(alt.param(name="yscale", value="log" if log else "linear", bind=radio))
    if with_published:
        box = alt.binding_checkbox(name="Show published series ")
        switches.append(alt.param(name="show_published", value=True, bind=box))
    if len(shown) > 1:
        choice = alt.binding_select(options=[ALL, *shown], name="Highlight ")
        switches.append(alt.param(name="highlight", value=ALL, bind=choice))
    return switches


def _channels(axes: Axes) -> tuple[alt.X, alt.Y]:
    log = axes.log
    x_axis = rendering.bottom_axis(format="d", labelFlush=False)
    x = alt.X("length:Q", title="Image length √(h·w) in px", axis=x_axis, scale=alt.Scale(zero=True))
    powers = ", ".join(f"log({tick}) / LN10" for tick in LOG_TICKS)
    y_axis = alt.Axis(
        values=alt.ExprRef(_by_scale("null", f"[{powers}]", log)),
        tickCount=alt.ExprRef(_by_scale("7", "15", log)),
        labelExpr=f"format({_by_scale('datum.value', 'pow(10, datum.value)', log)}, '.3~r')",
    )
    zero = alt.ExprRef(_by_scale("true", "false", log))
    return x, alt.Y("y:Q", title=axes.y_title, axis=y_axis, scale=alt.Scale(zero=zero))


def _on_axis(chart: alt.Chart, log: bool | None) -> alt.Chart:
    """Add y, y_low, y_high: a scale's type cannot be a parameter, so the switch is in the numbers instead."""
    sources = {"y": "value", "y_low": "low", "y_high": "high"}
    return chart.transform_calculate(
        **{y: _by_scale(f"datum.{source}", f"log(datum.{source}) / LN10", log) for y, source in sources.items()}
    )


def _by_scale(linear: str, logarithmic: str, log: bool | None) -> str:
    return linear if log is None else f"(yscale == 'log' ? {logarithmic} : {linear})"
