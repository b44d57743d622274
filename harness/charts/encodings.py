"""How figures tell series apart: hue, shape and dash, one legend for all of them."""

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

MANY = 8  # series from which on a line each would be a thicket: then colour tells the kind of device
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES = ([8, 3], [2, 3], [8, 3, 2, 3], [4, 2])
KINDS = {backend: (HUES[kind.hue], kind.shape) for backend, kind in ACCELERATORS.items()}
# Of all other kinds, which share a hue: shapes that no known kind has.
OTHER_SHAPES = ("triangle-up", "triangle-left", "triangle-right", "arrow", "wedge")


@dataclass(frozen=True)
class Encodings:
    """Channels of one figure: the field that they encode, and the dashes of series that have any."""

    field: str
    stroke: alt.Stroke
    fill: alt.Fill
    shape: alt.Shape
    # Not a channel of its own: a legend would draw the symbols dashed too, and nobody could tell them apart.
    dashes: Mapping[str, list[int]]


def is_crowded(own: Sequence[str]) -> bool:
    """Whether there are so many series that colour tells their kind only."""
    return len(own) > MANY


def series_styles(tables: Tables) -> dict[str, tuple[str, str]]:
    """Hue and shape of each of one's own series, the same in every figure.

    The hue of its kind of device where that is free, else another; of many series, always that of the kind.
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
    """Encodings that tell the series apart. own: their hues and shapes.

    One's own are coloured, solid and filled; the published ones grey, dashed and hollow.
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
    """Encodings that tell kinds of devices apart: for figures of more series than there are hues and shapes."""
    styles = kind_styles(row["kind"] for row in rows)
    dashes = {row["series"]: DASHES[0] for row in rows if row["published"]}
    return _encodings("kind", {kind: (hue, hue, shape) for kind, (hue, shape) in styles.items()}, dashes)


def kind_styles(kinds: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Hue and shape of each kind of device; those that this version does not know share a hue."""
    found = list(dict.fromkeys(kinds))
    others = [kind for kind in found if kind not in KINDS]
    unknown = {kind: (OTHER_HUE, OTHER_SHAPES[i % len(OTHER_SHAPES)]) for i, kind in enumerate(others)}
    return {kind: (KINDS | unknown)[kind] for kind in found}


def by_style(channel: Any, field: str, styles: Mapping[str, Sequence[str]], i: int, has_legend: bool = True) -> Any:
    """A channel that gives each value of a field the i-th of what it looks like."""
    scale = alt.Scale(domain=list(styles), range=[style[i] for style in styles.values()])
    return channel(f"{field}:N", legend=rendering.legend() if has_legend else None, scale=scale)


def _encodings(
    field: str, styles: Mapping[str, tuple[str, str, str]], dashes: Mapping[str, list[int]], has_legend: bool = True
) -> Encodings:
    stroke, fill, shape = (
        by_style(channel, field, styles, i, has_legend) for i, channel in enumerate((alt.Stroke, alt.Fill, alt.Shape))
    )
    return Encodings(field, stroke, fill, shape, dashes)
