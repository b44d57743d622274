"""The figure of coverage: which cases of each device were measured, flagged, failed, skipped or are missing."""

from __future__ import annotations

from collections import Counter

from harness.charts import heatmap, rendering
from harness.charts.figure import Drawing, Figure
from harness.charts.heatmap import Cell
from harness.charts.rendering import GREY
from harness.results.formatting import Row, place
from harness.results.tables import Tables
from harness.schema import identity

CASE = (*identity.PLACE, *identity.REQUEST)  # what has one row of the query
# States with hue, ink of the word on it, and the word, which is the second code.
STATES = {
    "measured": (rendering.HUES[2], "#000000", "✓"),
    "measured, some flagged": (rendering.HUES[0], "#ffffff", "✓!"),
    "failed": (rendering.HUES[1], "#000000", "✕"),
    "skipped": (GREY, "#000000", "–"),
    "not measured": ("transparent", GREY, "·"),
}


def draw(tables: Tables) -> Drawing:
    """Every case that any device was asked for, by device."""
    found = cells(tables)
    states = Counter(cell.state for cell in found)
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    styles = {state: (hue, ink) for state, (hue, ink, _) in STATES.items()}
    return heatmap.draw(found, styles, [counts], "nothing was requested")


def cells(tables: Tables) -> list[Cell]:
    """Every device × crop, and whatever else was asked for, that any device was asked for."""
    rows = tables.coverage.to_pylist()
    # The medians know of the drift of a block, too.
    n_flagged = {identity.values(row, CASE): row["n_flagged"] for row in tables.cases}
    columns = heatmap.columns(rows)
    found = {(place(row), columns[heatmap.case(row)]): row for row in rows}
    made = []
    for device in dict.fromkeys(map(place, rows)):
        for crop in dict.fromkeys(columns.values()):
            if row := found.get((device, crop)):
                made.append(_cell(device, crop, row, n_flagged.get(identity.values(row, CASE), row["n_flagged"])))
            else:
                made.append(Cell(device, crop, "not measured", STATES["not measured"][2], "no row in the results"))
    return made


def _cell(device: str, crop: str, row: Row, n_flagged: int) -> Cell:
    state = _state(row, n_flagged)
    detail = f"{row['n_ok']} timed, {n_flagged} flagged, {row['n_failed']} failed"
    return Cell(device, crop, state, STATES[state][2], detail + (f" ({row['statuses']})" if row["statuses"] else ""))


def _state(row: Row, n_flagged: int) -> str:
    if row["n_failed"]:
        return "failed"
    if row["n_ok"]:
        return "measured, some flagged" if n_flagged else "measured"
    return "skipped" if row["n_skipped"] else "not measured"


COVERAGE = Figure(
    "coverage", "What was measured", "devices × cases: measured, flagged, failed, skipped, not measured",
    ("coverage",), draw, lambda tables: {"Coverage": heatmap.numbers(cells(tables))},
)  # fmt: skip
