"""The figure of lines through points against image length: times, ratios, throughput, memory, energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from harness.charts import encodings, rendering
from harness.charts.rendering import GREY
from harness.results.formatting import Row

SHOWN = "show_published || !datum.published"
FAINT = 0.08
# Right of the largest image, for what the limits say: nothing else is there for words to lie on. At most a share of the
# width, for a phone.
ROOM_PX, ROOM_SHARE = 90, 0.3
LINE_PX = 13
ALL = "all"  # of the list of series to highlight
# Ticks of the logarithmic axis, 1 ms to 50,000 s; those outside the data are not drawn.
LOG_TICKS = [round(digit * 10.0**power, 3) for power in range(-3, 5) for digit in (1, 2, 5)]


@dataclass(frozen=True)
class Figure:
    """What a figure of lines says besides its points.

    `log` None is a linear axis from zero; True or False is what a switch between both starts with. ranges: what low
    and high of a point are.
    """

    title: str
    y_title: str
    notes: Sequence[str]
    empty: str
    ranges: tuple[str, str] = ("low", "high")
    baseline: float | None = None
    log: bool | None = None


@dataclass(frozen=True)
class Law:
    """A fitted curve of a series and what it approaches: points, and the limit with its interval."""

    series: str
    is_published: bool
    points: Sequence[Row]
    limit: float
    low: float | None
    high: float | None
    text: str


def point(row: Row, series: str, value: float, is_published: bool = False) -> Row:
    """A point of a figure, from a row that has a size."""
    size = f"{row['height_px']} × {row['width_px']}"
    length = (row["height_px"] * row["width_px"]) ** 0.5
    return {
        "series": series, "kind": row["backend"], "published": is_published, "length": round(length, 1), "size": size,
        "value": value,
    }  # fmt: skip


def draw(
    figure: Figure,
    own: list[Row],
    others: list[Row],
    series: tuple[Sequence[str], Sequence[str]],
    repetitions: Sequence[Row] = (),
    laws: Sequence[Law] = (),
) -> alt.LayerChart:
    """One's own points and the published ones; `series` names all there are of both, so that each keeps its look."""
    heading = rendering.heading(figure.title, figure.notes)
    rows = others + own  # one's own are drawn on top
    if not rows:
        return rendering.empty(heading, figure.empty)
    crowded = encodings.is_crowded(series[0])
    look = encodings.of_kinds(rows) if crowded else encodings.of_series(*series, {row["series"] for row in rows})
    rows = [row | {"dash": look["dash"].get(row["series"])} for row in rows]
    shown = list(dict.fromkeys(row["series"] for row in own + others))
    end = max(row["length"] for row in rows) if laws else None
    marks = _Marks(figure, look, crowded, bool(others), len(shown) > 1, end)
    layers = [*_rules(figure), *marks.laws(laws), marks.lines(), *marks.spread(rows, repetitions), marks.points(rows)]
    chart = alt.layer(*layers, data=rendering.data(rows)).add_params(*_switches(figure.log, bool(others), shown))
    names = ", ".join(
        shown
        if len(shown) <= 2 * encodings.MANY
        else [*shown[: 2 * encodings.MANY], f"{len(shown) - 2 * encodings.MANY} more"]
    )
    described = f"{figure.title}. Lines of {figure.y_title} against image length in px for {names}."
    return rendering.theme(chart, heading, described)


@dataclass(frozen=True)
class _Marks:
    """The layers of one figure, which share axes, looks and the choice of what is highlighted."""

    figure: Figure
    look: dict[str, Any]
    crowded: bool
    with_published: bool
    choosable: bool
    end: float | None  # image length up to which there are points, where room is to be left beyond

    def lines(self) -> alt.Chart:
        lines = self._base().mark_line(strokeWidth=1 if self.crowded else 1.6, strokeDash=alt.ExprRef("datum.dash"))
        return lines.encode(opacity=self._opacity(0.45 if self.crowded else 1.0), detail="series:N")

    def points(self, rows: Sequence[Row]) -> alt.Chart:
        dots = self._base().mark_point(size=22 if self.crowded else 44, strokeWidth=1.4)
        dots = dots.encode(
            fill=self.look["fill"],
            shape=self.look["shape"],
            tooltip=_tooltip(self.figure, rows[-1]),
            opacity=self._opacity(0.7 if self.crowded else 1.0),
        )
        # One layer holds the selection, the others ask for it by name.
        picked = alt.selection_point(name="picked", fields=[self.look["field"]], bind="legend")
        return dots.add_params(picked) if self.choosable else dots

    def spread(self, rows: Sequence[Row], repetitions: Sequence[Row]) -> list[alt.Chart]:
        """Every repetition, and the range of each point."""
        layers = []
        if repetitions:
            dots = self._base().properties(data=rendering.data(list(repetitions)))
            layers.append(dots.mark_point(shape="circle", size=8, strokeWidth=1.5).encode(opacity=self._opacity(0.4)))
        if any("low" in row for row in rows):
            ranges = self._base().transform_filter("isValid(datum.low)").encode(y="y_low:Q", y2="y_high:Q")
            width = 2 if self.crowded else 4
            layers.append(ranges.mark_rule(strokeWidth=width).encode(opacity=self._opacity(0.5)))
        return layers

    def laws(self, laws: Sequence[Law]) -> list[alt.Chart]:
        """Each law's curve, thin and dotted, and the limit that it approaches with its interval and its words."""
        if not laws:
            return []
        curves = [
            {"series": law.series, "published": law.is_published, "length": each["length"], "value": each["value"]}
            for law in laws
            for each in law.points
        ]
        limits = [
            {"series": law.series, "published": law.is_published, "value": law.limit, "low": law.low, "high": law.high,
             "text": law.text} for law in sorted(laws, key=lambda law: -law.limit)
        ]  # fmt: skip
        line = self._base(curves).mark_line(strokeWidth=1, strokeDash=[1, 3]).encode(opacity=self._opacity(0.9))
        flat = {"x": alt.value(0), "x2": alt.value("width")}
        base = self._base(limits)
        band = base.transform_filter("isValid(datum.low) && isValid(datum.high)").mark_rect(strokeWidth=0)
        band = band.encode(
            **flat, y="y_low:Q", y2="y_high:Q", fill=self.look["band"], stroke=alt.value(None),
            opacity=self._opacity(0.12),
        )  # fmt: skip
        rule = base.mark_rule(strokeWidth=1, strokeDash=[5, 3]).encode(**flat, opacity=self._opacity(0.9))
        # The highest above its line and the others below: two that are close do not meet.
        return [band, rule, line, self._words(limits[:1], above=True), self._words(limits[1:])]

    def _words(self, limits: Sequence[Row], above: bool = False) -> alt.Chart:
        n_more = max((limit["text"].count("\n") for limit in limits), default=0)  # lines hang from the first
        place = {"baseline": "bottom", "dy": -3 - LINE_PX * n_more} if above else {"baseline": "top", "dy": 4}
        text = self._base(limits).mark_text(
            **place, align="right", fontSize=11, lineHeight=LINE_PX, lineBreak="\n", color=GREY, strokeWidth=0
        )
        return text.encode(x=alt.value("width"), text="text:N", stroke=alt.value(None), opacity=self._opacity(1.0))

    def _base(self, values: Sequence[Row] | None = None) -> alt.Chart:
        """A chart on the axes; without values it takes those of the whole figure."""
        x, y = _axes(self.figure, self.end)
        data = {} if values is None else {"data": rendering.data(list(values))}
        chart = _on_axis(alt.Chart(**data).encode(x=x, y=y, stroke=self.look["stroke"]), self.figure.log)
        return chart.transform_filter(SHOWN) if self.with_published else chart

    def _opacity(self, value: float) -> Any:
        if not self.choosable:
            return alt.value(value)
        highlighted = f"highlight == '{ALL}' || datum.series == highlight"
        chosen = {"test": {"and": [{"param": "picked"}, highlighted]}, "value": value}
        return alt.OpacityValue(min(FAINT, value), condition=chosen)


def _rules(figure: Figure) -> list[alt.Chart]:
    if figure.baseline is None:
        return []
    rule = alt.Chart(rendering.data([{"y": figure.baseline}])).mark_rule(color=GREY, strokeWidth=1)
    return [rule.encode(y="y:Q")]


def _tooltip(figure: Figure, row: Row) -> list[alt.Tooltip]:
    texts = ("images_per_hour", "repetitions", "precision", "flagged", "basis")
    ranges = zip(("low", "high"), figure.ranges, strict=True)
    return [
        alt.Tooltip("series:N", title="series"),
        alt.Tooltip("size:N", title="image in px"),
        alt.Tooltip("value:Q", title=figure.y_title, format=".3~r"),
        *[alt.Tooltip(f"{name}:Q", title=title, format=".3~r") for name, title in ranges if name in row],
        *[alt.Tooltip(f"{name}:N", title=name.replace("_", " ")) for name in texts if name in row],
    ]


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


def _axes(figure: Figure, end: float | None) -> tuple[alt.X, alt.Y]:
    log = figure.log
    x_axis = {"grid": False, "tickCount": 6, "format": "d", "labelFlush": False}
    x_scale: dict[str, Any] = {"zero": True}
    if end is not None:
        x_scale |= {"domainMax": alt.ExprRef(f"{end} / (1 - min({ROOM_PX} / width, {ROOM_SHARE}))"), "nice": False}
        x_axis |= {"labelExpr": f"datum.value > {end} ? '' : datum.label"}  # nothing was measured there
    x = alt.X("length:Q", title="Image length √(h·w) in px", axis=alt.Axis(**x_axis), scale=alt.Scale(**x_scale))
    powers = ", ".join(f"log({tick}) / LN10" for tick in LOG_TICKS)
    y_axis = alt.Axis(
        values=alt.ExprRef(_by_scale("null", f"[{powers}]", log)),
        tickCount=alt.ExprRef(_by_scale("7", "15", log)),
        labelExpr=f"format({_by_scale('datum.value', 'pow(10, datum.value)', log)}, '.3~r')",
    )
    zero = alt.ExprRef(_by_scale("true", "false", log))
    return x, alt.Y("y:Q", title=figure.y_title, axis=y_axis, scale=alt.Scale(zero=zero))


def _on_axis(chart: alt.Chart, log: bool | None) -> alt.Chart:
    """Add y, y_low, y_high: a scale's type cannot be a parameter, so the switch is in the numbers instead."""
    sources = {"y": "value", "y_low": "low", "y_high": "high"}
    return chart.transform_calculate(
        **{y: _by_scale(f"datum.{source}", f"log(datum.{source}) / LN10", log) for y, source in sources.items()}
    )


def _by_scale(linear: str, logarithmic: str, log: bool | None) -> str:
    return linear if log is None else f"(yscale == 'log' ? {logarithmic} : {linear})"
