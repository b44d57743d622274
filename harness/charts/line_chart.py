"""The figure of lines through points against image length: times, ratios, throughput, memory, energy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt

from harness.charts import encodings, rendering
from harness.charts.encodings import Encodings
from harness.charts.figure import FEWEST, Drawing
from harness.charts.rendering import GREY
from harness.results import others
from harness.results.formatting import Row, interval, listed, number, pixels, short_name
from harness.results.tables import Tables
from harness.schema import identity

SHOWN = "show_published || !datum.published"
FAINT = 0.08
ALL = "all"  # the entry of the list of highlights that stands for every series
# The fields of a point that the layers read; the other fields are texts for the tooltip.
DRAWN = ("series", "kind", "published", "length", "value", "low", "high", "dash")
GAP = [5, 4]  # dashes of one's own line across a size that its series lacks; lines of others are dashed everywhere
LABELLED = ("series", "published", "length", "value", "label", "last", "dy_log", "dy_linear")
LABEL_PX, CHARACTER_PX, LABEL_CHARACTERS = 15, 6.7, 30  # distance of labels; width of a character; longest label
DECADE = 10  # the axis begins logarithmic if largest over smallest value is at least this
TEXTS = ("images_per_hour", "above_idle", "repetitions", "precision", "flagged", "basis")
# Ticks of the logarithmic axis, 1 µs to 50,000,000 s; those outside the data are not drawn.
LOG_TICKS = [round(digit * 10.0**power, 6) for power in range(-6, 8) for digit in (1, 2, 5)]


@dataclass(frozen=True)
class Axes:
    """The properties of one figure of lines.

    range_title: the name of the range from low to high of a point. is_interval: whether the range is a 95 % interval,
    drawn as a thin line; other ranges are broad bars. baseline: the value of a horizontal rule. unit: follows the value
    in a label.
    """

    y_title: str
    range_title: str = "range"
    is_interval: bool = False
    baseline: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Domain:
    """The ends of the vertical axis. log: as powers of ten. is_log: whether the axis begins logarithmic."""

    linear: tuple[float, float]
    log: tuple[float, float]
    is_log: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> Domain:
        positive = [value for value in values if value > 0] or [1.0]
        least, most = min(positive), max(positive)
        # At least half a decade, so that the axis has a length if there is only one value.
        middle, half = math.log10(least * most) / 2, max(math.log10(most / least) / 2 * 1.08, 0.25)
        log = (middle - half, middle + half)
        return cls((0.0, 1.05 * most), log, most >= DECADE * least)

    def y_px(self, value: float, log: bool) -> float:
        """The distance of a value from the upper edge, in px."""
        low, high = self.log if log else self.linear
        return rendering.HEIGHT_PX * (high - (math.log10(value) if log else value)) / (high - low)


def point(row: Row, series: str, value: float) -> Row:
    """A point of a figure. row: has the image size and the backend."""
    return {
        "series": series, "kind": row["backend"] or "unknown", "published": False,
        "length": round(row["n_pixels"] ** 0.5, 1), "oblong": row.get("height_px") != row.get("width_px"),
        "size": pixels(row), "value": value, "text": number(value),
    }  # fmt: skip


def bounds(low: float | None, high: float | None) -> Row:
    """The ends of a point's range, None where unknown, and the range as text."""
    return {"low": low, "high": high, "range": interval(low, high)}


def other_point(row: Row, value: float) -> Row:
    """A point that others measured. row: of results.others."""
    about = {"published": True, "label": f"{row['label']} {row['mark']}", "mark": row["mark"]}
    return point(row, row["series"], value) | about


def draw(
    axes: Axes,
    tables: Tables,
    own: Sequence[Row],
    by_others: Sequence[Row] = (),
    subtitle: str = "",
    empty: str = "",
    repetitions: Sequence[Row] = (),
    notes: Sequence[str] = (),
) -> Drawing:
    """Lines through one's own points and those of others, with the encodings that each series has in every figure.

    own: rows of `point`; by_others: of `other_point`. empty: the reason, if there is no measured point. repetitions:
    drawn as small dots.
    """
    if not own:
        return Drawing(None, "", empty)
    points = [*by_others, *own]  # one's own points are drawn on top
    if len(points) < FEWEST:
        return Drawing(None, "", "; ".join(_sentence(axes, row) for row in points))
    shown = list(dict.fromkeys(row["series"] for row in [*own, *by_others]))
    crowded = encodings.is_crowded(tables.series)
    labels = {} if crowded else _labels(tables, own, by_others)
    if crowded:
        encoded = encodings.of_kinds(points)
    else:
        every = dict.fromkeys(row["series"] for row in others.times(tables))
        encoded = encodings.of_series(encodings.series_styles(tables), list(every), shown, has_legend=not labels)
    tooltip = _tooltip(axes, points)
    # A dash replaces a text that other points have and this one lacks.
    rows: list[Row] = []
    for row in points:
        values: Row = {**dict.fromkeys(tooltip, "–"), **row, "dash": encoded.dashes.get(row["series"])}
        rows.append({name: values.get(name) for name in (*DRAWN, *tooltip)})
    ends = [row.get(name) for row in (*points, *repetitions) for name in ("value", "low", "high")]
    domain = Domain.of([end for end in (*ends, axes.baseline) if end is not None])
    lengths = sorted({row["length"] for row in points})
    layer = _Layers(axes, domain, lengths, encoded, tooltip, labels, crowded, bool(by_others), len(shown) > 1)
    layers = [*layer.baseline(), *layer.lines(points), *layer.spread(rows, repetitions), layer.points()]
    layers += layer.labels_at(points) if labels else []
    switches = _switches(domain, bool(by_others), shown)
    chart = alt.layer(*layers, data=rendering.data(rows)).add_params(*switches)
    named = listed(shown, 2 * encodings.MANY)
    description = f"Lines of {axes.y_title} against image side in px for {named}."
    return Drawing(chart, subtitle, description, notes=[*notes, *_mark_notes(points, bool(labels))])


def _sentence(axes: Axes, row: Row) -> str:
    """A point in words: '1.25 GB at 896 × 896 px on AMD EPYC'."""
    ends = f" ({axes.range_title}: {row['range']})" if row.get("low") is not None else ""
    return f"{row['text']}{axes.unit or f' {axes.y_title.lower()}'}{ends} at {row['size']} px on {row['series']}"


def _labels(tables: Tables, own: Sequence[Row], by_others: Sequence[Row]) -> dict[str, str]:
    """A short label for each series; none if one label is too long."""
    short = {tables.name(row): short_name(row["device_name"]) for row in tables.cases}
    labels = {name: short.get(name, name) for name in dict.fromkeys(str(row["series"]) for row in own)}
    labels |= {row["series"]: row["label"] for row in by_others}
    twins = Counter(labels.values())
    labels = {series: label if twins[label] == 1 else series for series, label in labels.items()}
    return labels if max(map(len, labels.values())) <= LABEL_CHARACTERS else {}


def _have_gaps(points: Sequence[Row]) -> bool:
    """Whether a series lacks a size of the figure that lies between two of its own."""
    places = {length: place for place, length in enumerate(sorted({row["length"] for row in points}))}
    own = identity.grouped(points, lambda row: row["series"]).values()
    return any(b - a > 1 for rows in own for a, b in pairwise(sorted({places[row["length"]] for row in rows})))


def _mark_notes(points: Sequence[Row], has_labels: bool) -> list[str]:
    """The notes about the marks that are drawn; a legend has the full names of series, without their marks."""
    marks = {row.get("mark") for row in points}
    notes = ["side of an image that is not square: √(height × width)"] if any(row["oblong"] for row in points) else []
    if _have_gaps(points):
        notes.append("line dashed in colour, or no line in grey: the sizes between were not measured")
    return notes + [f"{mark}: {words}" for mark, words in others.MARKS.items() if has_labels and mark in marks]


@dataclass(frozen=True)
class _Layers:
    """The layers of one figure, which share axes, encodings and the highlight."""

    axes: Axes
    domain: Domain
    lengths: Sequence[float]
    encoded: Encodings
    tooltip: Mapping[str, str]
    labels: Mapping[str, str]
    crowded: bool
    with_published: bool
    choosable: bool

    def baseline(self) -> list[alt.Chart]:
        """A rule at the baseline, as wide as the axis."""
        if self.axes.baseline is None:
            return []
        rule = _on_axis(alt.Chart(rendering.data([{"value": self.axes.baseline, "low": None, "high": None}])))
        ends = {"x": alt.value(0), "x2": alt.value(alt.ExprRef(f"width - {self._room()}"))}
        return [rule.mark_rule(color=GREY, strokeWidth=1).encode(y="y:Q", **ends)]

    def lines(self, points: Sequence[Row]) -> list[alt.Chart]:
        """The line of each series; across sizes that it lacks, one's own is dashed, others have none."""
        if len({(row["series"], row["length"]) for row in points}) == len({row["series"] for row in points}):
            return []  # Vega prints a warning about a layer without rows
        is_gap = f"indexof({self.lengths}, datum.to) > indexof({self.lengths}, datum.length) + 1"
        dash = f"{is_gap} ? {GAP} : datum.dash"
        parts = self._base().transform_window(
            to="lead(length)", y_to="lead(y)", groupby=["series"], sort=[alt.SortField("length")]
        )
        parts = parts.transform_filter(f"isValid(datum.to) && !(datum.published && {is_gap})").encode(
            x2="to:Q", y2="y_to:Q"
        )
        lines = parts.mark_rule(strokeWidth=1 if self.crowded else 1.6, strokeDash=alt.ExprRef(dash))
        return [lines.encode(opacity=self._opacity(0.45 if self.crowded else 1.0))]

    def points(self) -> alt.Chart:
        dots = self._base().mark_point(size=22 if self.crowded else 44, strokeWidth=1.4)
        dots = dots.encode(
            fill=self.encoded.fill,
            shape=self.encoded.shape,
            tooltip=[alt.Tooltip(f"{name}:N", title=title) for name, title in self.tooltip.items()],
            opacity=self._opacity(0.7 if self.crowded else 1.0),
        )
        # One layer defines the selection; the others refer to it by name.
        picked = alt.selection_point(name="picked", fields=[self.encoded.field], bind="legend")
        return dots.add_params(picked) if self._has_legend_choice else dots

    @property
    def _has_legend_choice(self) -> bool:
        return self.choosable and not self.labels

    def labels_at(self, points: Sequence[Row]) -> list[alt.Chart]:
        """The label of each series with its last value, to the right of its last point."""
        last = {row["series"]: row for row in sorted(points, key=lambda row: row["length"])}
        longest = max(self.lengths)
        rows = []
        for series, row in last.items():
            size = "" if row["length"] == longest else f" ({row['length']:.0f} px)"
            rows.append(row | {"label": self.labels[series], "last": f"{number(row['value'])}{self.axes.unit}{size}"})
        for name, log in (("dy_log", True), ("dy_linear", False)):
            for row, dy in zip(rows, _apart([self.domain.y_px(row["value"], log) for row in rows]), strict=True):
                row[name] = dy
        drawn = [{name: row[name] for name in LABELLED} for row in rows]
        words = self._base(drawn, coloured=False).mark_text(
            align="left", baseline="middle", dx=9, dy=alt.ExprRef("yscale == 'log' ? datum.dy_log : datum.dy_linear"),
            fontSize=alt.ExprRef(f"{rendering.NARROW} ? 10 : 12"), limit=alt.ExprRef(f"{self._room()} - 9"),
        ).encode(text="words:N")  # fmt: skip
        text = f"{rendering.NARROW} ? datum.label : datum.label + '  ' + datum.last"
        words = words.transform_calculate(words=text)
        # A label inside the figure crosses lines of other series.
        inside = words.transform_filter(f"datum.length < {longest}")
        halo = inside.encode(stroke=alt.value(rendering.PAPER), strokeWidth=alt.value(4))
        return [*([halo] if any(row["length"] < longest for row in rows) else []), words]

    def _room(self) -> str:
        """The width for labels in px, as an expression of Vega."""
        if not self.labels:
            return "0"
        longest = max(map(len, self.labels.values()))
        narrow, wide = CHARACTER_PX * longest * 0.86 + 12, CHARACTER_PX * (longest + 9) + 12
        return f"({rendering.NARROW} ? {min(narrow, 130):.0f} : {wide:.0f})"

    def spread(self, rows: Sequence[Row], repetitions: Sequence[Row]) -> list[alt.Chart]:
        """The layers of all repetitions and of the range of each point."""
        layers = []
        if repetitions:
            dots = self._base().properties(data=rendering.data(list(repetitions)))
            layers.append(dots.mark_point(shape="circle", size=8, strokeWidth=1.5).encode(opacity=self._opacity(0.4)))
        if any(row["low"] is not None for row in rows):
            ranges = self._base().transform_filter("isValid(datum.low)").encode(y="y_low:Q", y2="y_high:Q")
            width, opacity = (1.4, 0.9) if self.axes.is_interval else (2 if self.crowded else 5, 0.4)
            layers.append(ranges.mark_rule(strokeWidth=width).encode(opacity=self._opacity(opacity)))
        return layers

    def _base(self, values: Sequence[Row] | None = None, coloured: bool = True) -> alt.Chart:
        """A chart on the shared axes. values: by default those of the whole figure."""
        x, y = _channels(self.axes, self.domain, self.lengths, self._room())
        data = alt.Undefined if values is None else rendering.data(list(values))
        stroke = self.encoded.stroke if coloured else alt.Undefined
        chart = _on_axis(alt.Chart(data).encode(x=x, y=y, stroke=stroke))
        return chart.transform_filter(SHOWN) if self.with_published else chart

    def _opacity(self, value: float) -> Any:
        if not self.choosable:
            return alt.value(value)
        highlighted = f"highlight == '{ALL}' || datum.series == highlight"
        test = {"and": [{"param": "picked"}, highlighted]} if self._has_legend_choice else highlighted
        chosen = {"test": test, "value": value}
        return alt.OpacityValue(min(FAINT, value), condition=chosen)


def _apart(places_px: Sequence[float]) -> list[float]:
    """The downward shift of each label in px that prevents overlaps and keeps all labels within the figure."""
    order = sorted(range(len(places_px)), key=places_px.__getitem__)
    moved: list[float] = []
    for i in order:
        moved.append(max(places_px[i], moved[-1] + LABEL_PX if moved else 0.0))
    limit = float(rendering.HEIGHT_PX)
    for k in reversed(range(len(moved))):
        moved[k] = min(moved[k], limit)
        limit = moved[k] - LABEL_PX
    by_place = dict(zip(order, moved, strict=True))
    return [round(by_place[i] - place, 1) for i, place in enumerate(places_px)]


def _tooltip(axes: Axes, points: Sequence[Row]) -> dict[str, str]:
    """The fields of the tooltip with their titles, without fields that no point has."""
    fields = {"series": "series", "size": "image in px", "text": axes.y_title, "range": axes.range_title}
    fields |= {name: name.replace("_", " ") for name in TEXTS}
    return {name: title for name, title in fields.items() if any(name in row for row in points)}


def _switches(domain: Domain, with_published: bool, shown: Sequence[str]) -> list[alt.Parameter]:
    radio = alt.binding_radio(options=["log", "linear"], name="Scale: ")
    switches = [alt.param(name="yscale", value="log" if domain.is_log else "linear", bind=radio)]
    if with_published:
        box = alt.binding_checkbox(name="Show times of others ")
        switches.append(alt.param(name="show_published", value=True, bind=box))
    if len(shown) > 1:
        choice = alt.binding_select(options=[ALL, *shown], name="Highlight ")
        switches.append(alt.param(name="highlight", value=ALL, bind=choice))
    return switches


def _channels(axes: Axes, domain: Domain, lengths: Sequence[float], room: str) -> tuple[alt.X, alt.Y]:
    ticks = alt.Axis(grid=False, values=list(lengths), format=".0f", labelOverlap="greedy", labelSeparation=6)
    ends = [lengths[0] / 1.08, lengths[-1] * 1.02] if len(lengths) > 1 else [lengths[0] / 1.5, lengths[0] * 1.5]
    x_scale = alt.Scale(type="log", domain=ends, nice=False, range=[0, alt.ExprRef(f"width - {room}")])
    x = alt.X("length:Q", title="Image side in px", axis=ticks, scale=x_scale)
    powers = ", ".join(f"log({tick}) / LN10" for tick in LOG_TICKS)
    y_axis = alt.Axis(
        values=alt.ExprRef(_by_scale("null", f"[{powers}]")),
        tickCount=alt.ExprRef(_by_scale("7", "15")),
        labelExpr=f"format({_by_scale('datum.value', 'pow(10, datum.value)')}, '.3~r')",
    )
    low, high = (alt.ExprRef(_by_scale(*map(str, pair))) for pair in zip(domain.linear, domain.log, strict=True))
    y_scale = alt.Scale(domainMin=low, domainMax=high, nice=False, zero=False)
    return x, alt.Y("y:Q", title=axes.y_title, axis=y_axis, scale=y_scale)


def _on_axis(chart: alt.Chart) -> alt.Chart:
    """Add y, y_low and y_high: linear values or logarithms, since the type of a scale cannot be a parameter."""
    sources = {"y": "value", "y_low": "low", "y_high": "high"}
    return chart.transform_calculate(
        **{y: _by_scale(f"datum.{source}", f"log(datum.{source}) / LN10") for y, source in sources.items()}
    )


def _by_scale(linear: str, logarithmic: str) -> str:
    return f"(yscale == 'log' ? {logarithmic} : {linear})"
