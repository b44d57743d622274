"""Sparklines: small lines of a series' values over its runs, as SVG without a script."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH_PX, HEIGHT_PX, EDGE_PX = 120, 26, 3
RUNS_MIN = 5  # fewer values can look like a trend by chance


def points(values: Sequence[float]) -> str:
    """The points of the line, evenly spaced, with the smallest value at the bottom: 'x,y x,y'.

    An empty text for fewer than RUNS_MIN values.
    """
    if len(values) < RUNS_MIN:
        return ""
    least, most = min(values), max(values)
    step, room = (WIDTH_PX - 2 * EDGE_PX) / (len(values) - 1), HEIGHT_PX - 2 * EDGE_PX

    def y(value: float) -> float:
        return HEIGHT_PX / 2 if most == least else EDGE_PX + room * (most - value) / (most - least)

    return " ".join(f"{EDGE_PX + i * step:.1f},{y(value):.1f}" for i, value in enumerate(values))
