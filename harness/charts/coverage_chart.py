"""The figure of coverage: the measured, flagged, failed, skipped and missing cases of each device."""

from __future__ import annotations

from collections import Counter

from harness.charts import heatmap
from harness.charts.figure import Drawing, Figure
from harness.charts.heatmap import Cell
from harness.charts.rendering import GREY, HUES, INKS, ON_DARK_HUE, QUIET
from harness.results.formatting import Row, count, place
from harness.results.messages import Message
from harness.results.tables import Tables
from harness.schema import identity

CASE = (*identity.PLACE, *identity.REQUEST)  # identifies a row of the query
FLAGGED = "measured, some flagged"
# States with hue, ink of the word on it, and the word, which repeats what the hue encodes.
STATES = {
    "measured": (HUES[2], INKS[HUES[2]], "✓"),
    FLAGGED: (HUES[0], INKS[HUES[0]], "✓!"),
    "failed": (HUES[1], INKS[HUES[1]], "✕"),
    "skipped": (GREY, ON_DARK_HUE, "–"),
    "not measured": ("transparent", QUIET, "·"),
}


def draw(tables: Tables) -> Drawing:
    """A matrix of every device × every case that was requested of any device."""
    states = {state: (hue, ink) for state, (hue, ink, _) in STATES.items()}
    subtitle = "Each device and image size: measured, flagged (background load, drift …), failed, skipped."
    return heatmap.draw(cells(tables), states, subtitle, "nothing was requested")


def message(tables: Tables) -> Message | None:
    """The numbers of measured, flagged and failed cases; None without cases."""
    states = Counter(cell.state for cell in cells(tables))
    if not states:
        return None
    n_measured = states["measured"] + states[FLAGGED]
    parts = [f"{n_measured} of {count(states.total(), 'case')} measured"]
    parts += [f"{states[FLAGGED]} of them with flags"] if states[FLAGGED] else []
    parts += [f"{states['failed']} failed"] if states["failed"] else []
    return Message(", ".join(parts))


def cells(tables: Tables) -> list[Cell]:
    """The state of every device × every kind of case that was requested of any device."""
    rows = tables.coverage.to_pylist()
    # The medians also count flags for the drift of a block, which the coverage query lacks.
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
        return FLAGGED if n_flagged else "measured"
    return "skipped" if row["n_skipped"] else "not measured"


COVERAGE = Figure(
    "coverage", "What was measured", "devices × cases: measured, flagged, failed, skipped, not measured",
    ("coverage",), draw, lambda tables: {"Coverage": heatmap.numbers(cells(tables))},
    message=message, in_report=lambda tables: any(cell.state != "measured" for cell in cells(tables)),
)  # fmt: skip
