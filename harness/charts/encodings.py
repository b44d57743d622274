"""Hue, shape and dash of series in figures, with one legend for all three."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import altair as alt

from harness.charts import rendering
from harness.charts.rendering import GREY, HUES, OTHER_HUE
from harness.machine.accelerators import ACCELERATORS
from harness.results.formatting import Row
from harness.results.tables import Tables

MANY = 8  # series with a hue each; with more of them, the hue encodes the kind of device
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES = ([8, 3], [2, 3], [8, 3, 2, 3], [4, 2])
KINDS = {backend: (HUES[kind.hue], kind.shape) for backend, kind in ACCELERATORS.items()}
# Shapes of all other kinds, which share a hue; no known kind has these shapes.
OTHER_SHAPES = ("triangle-up", "triangle-left", "triangle-right", "arrow", "wedge")


@dataclass(frozen=True)
class Encodings:
    """Channels of one figure. field: the encoded column. dashes: of the dashed series."""

    field: str
    stroke: alt.Stroke
    fill: alt.Fill
    shape: alt.Shape
    # Dashes are no channel: a legend would draw the symbols dashed too, which makes their shapes illegible.
    dashes: Mapping[str, list[int]]


def is_crowded(own: Sequence[str]) -> bool:
    """Whether the series outnumber MANY; then the hue encodes the kind of device."""
    return len(own) > MANY


def series_styles(tables: Tables) -> dict[str, tuple[str, str]]:
    """Hue and shape of each measured series, the same in every figure.

    The first series of a kind of device has the hue of the kind, others have a free hue. If crowded, all have that of
    their kind.
    """
    kinds = {tables.name(row): row["backend"] or "unknown" for row in tables.cases}
    of_kind = kind_styles(kinds.values())
    if is_crowded(list(kinds)):
        return {series: of_kind[kind] for series, kind in kinds.items()}
    first = {of_kind[kind][0]: series for series, kind in reversed(kinds.items())}
    free = cycle([hue for hue in HUES if hue not in first] or HUES)
    return {
        series: (hue if first[hue := of_kind[kind][0]] == series else next(free), SHAPES[i % len(SHAPES)])
        for i, (series, kind) in enumerate(kinds.items())
    }


def of_series(
    own: Mapping[str, tuple[str, str]], published: Sequence[str], shown: Iterable[str], has_legend: bool = True
) -> Encodings:
    """Encodings that distinguish series. own: hues and shapes of the measured series.

    Measured series are coloured, solid and filled; published ones are grey, dashed and hollow.
    """
    shown = list(shown)
    more = [name for name in shown if name not in (*own, *published)]
    known = dict(own) | {name: (HUES[i % len(HUES)], SHAPES[i % len(SHAPES)]) for i, name in enumerate(more)}
    styles = {name: (hue, hue, shape) for name, (hue, shape) in known.items()} | {
        name: (GREY, "transparent", SHAPES[i % len(SHAPES)]) for i, name in enumerate(published)
    }
    dashes = {name: DASHES[i % len(DASHES)] for i, name in enumerate(published)}
    return _encodings("series", {name: style for name, style in styles.items() if name in shown}, dashes, has_legend)


def of_kinds(rows: Sequence[Row]) -> Encodings:
    """Encodings that distinguish kinds of devices, for figures with more series than hues and shapes."""
    styles = kind_styles(row["kind"] for row in rows)
    dashes = {row["series"]: DASHES[0] for row in rows if row["published"]}
    return _encodings("kind", {kind: (hue, hue, shape) for kind, (hue, shape) in styles.items()}, dashes)


def kind_styles(kinds: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Hue and shape of each kind of device; unknown kinds share a hue."""
    found = list(dict.fromkeys(kinds))
    others = [kind for kind in found if kind not in KINDS]
    unknown = {kind: (OTHER_HUE, OTHER_SHAPES[i % len(OTHER_SHAPES)]) for i, kind in enumerate(others)}
    return {kind: (KINDS | unknown)[kind] for kind in found}


def by_style(channel: Any, field: str, styles: Mapping[str, Sequence[str]], i: int, has_legend: bool = True) -> Any:
    """A channel that maps each value of a field to the i-th entry of its style."""
    scale = alt.Scale(domain=list(styles), range=[style[i] for style in styles.values()])
    return channel(f"{field}:N", legend=rendering.legend() if has_legend else None, scale=scale)


def _encodings(
    field: str, styles: Mapping[str, tuple[str, str, str]], dashes: Mapping[str, list[int]], has_legend: bool = True
) -> Encodings:
    stroke, fill, shape = (
        by_style(channel, field, styles, i, has_legend) for i, channel in enumerate((alt.Stroke, alt.Fill, alt.Shape))
    )
    return Encodings(field, stroke, fill, shape, dashes)
