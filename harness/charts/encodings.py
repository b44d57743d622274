"""How figures tell series apart: hue, shape and dash, one legend for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from harness.charts import rendering
from harness.charts.rendering import GREY
from harness.machine.accelerators import ACCELERATORS
from harness.results.formatting import Row

MANY = 8  # series from which on a line each would be a thicket: then colour tells the kind of device
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES = ([8, 3], [2, 3], [8, 3, 2, 3], [4, 2])
KINDS = {backend: (rendering.HUES[kind.hue], kind.shape) for backend, kind in ACCELERATORS.items()}
OTHER_KIND = (rendering.HUES[1], "triangle-up")


def is_crowded(own: Sequence[str]) -> bool:
    """Whether there are so many series that colour tells their kind only."""
    return len(own) > MANY


def of_series(own: Sequence[str], others: Sequence[str], shown: set[str]) -> dict[str, Any]:
    """Encodings that tell the series apart, the same for a series in every figure, sharing one legend.

    One's own are coloured, solid and filled; the published ones grey, dashed and hollow.
    """
    hues = rendering.HUES
    looks = {
        name: (hue := hues[i % len(hues)], hue, SHAPES[(i + i // len(hues)) % len(SHAPES)])
        for i, name in enumerate(own)
    } | {name: (GREY, "transparent", SHAPES[i % len(SHAPES)]) for i, name in enumerate(others)}
    dashes = {name: DASHES[i % len(DASHES)] for i, name in enumerate(others)}
    return _encodings("series", {name: look for name, look in looks.items() if name in shown}, dashes)


def of_kinds(rows: Sequence[Row]) -> dict[str, Any]:
    """Encodings that tell kinds of devices apart: for figures of more series than there are looks."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    looks = {kind: (KINDS.get(kind, OTHER_KIND)[0], *KINDS.get(kind, OTHER_KIND)) for kind in kinds}
    dashes = {row["series"]: DASHES[0] for row in rows if row["published"]}
    return _encodings("kind", looks, dashes)


def _encodings(field: str, looks: dict[str, tuple[str, str, str]], dashes: dict[str, list[int]]) -> dict[str, Any]:
    strokes, fills, shapes = zip(*looks.values(), strict=True)
    legend = rendering.legend()

    def by_field(channel: Any, values: Iterable[Any], legend: alt.Legend | None = legend) -> Any:
        return channel(f"{field}:N", legend=legend, scale=alt.Scale(domain=list(looks), range=list(values)))

    return {
        "field": field,
        "stroke": by_field(alt.Stroke, strokes),
        "fill": by_field(alt.Fill, fills),
        "shape": by_field(alt.Shape, shapes),
        "band": by_field(alt.Fill, fills),
        # Not an encoding of its own: a legend would draw the symbols dashed too, and nobody could tell them apart.
        "dash": dashes,
    }
