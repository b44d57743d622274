"""The figure of masks: which devices found the very same ones, and how far each agrees with its own CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from string import ascii_uppercase

from harness.charts import heatmap, rendering
from harness.charts.figure import Drawing, Figure
from harness.charts.heatmap import Cell
from harness.charts.rendering import GREY
from harness.results.formatting import Row, count, extras, number, place
from harness.results.tables import Tables
from harness.schema import identity

# States with hue, and ink of the word on it.
NOT_COMPARED = "not compared"
NO_CELLS = "–"  # in place of a letter: equal empty masks prove nothing
STATES = {
    "identical": (rendering.HUES[2], "#000000"),
    "equivalent": (rendering.HUES[0], "#ffffff"),
    "close": (rendering.HUES[3], "#000000"),
    "different": (rendering.HUES[1], "#000000"),
    NOT_COMPARED: ("transparent", GREY),
}


def draw(tables: Tables) -> Drawing:
    """Which devices found the very same masks, by letter, and how far each agrees with its own CPU, by colour."""
    found = cells(tables)
    notes = ["same letter in a column: the same label image, bit by bit"]
    if any(cell.word == NO_CELLS for cell in found):
        notes.append(f"{NO_CELLS}: no device found a cell, which proves nothing")
    if any(cell.state != NOT_COMPARED for cell in found):
        notes.append("colour: compared with stock cellpose on the same machine’s CPU")
    else:
        notes.append("no mask pass was made: only the label images’ hashes are compared")
    return heatmap.draw(found, STATES, notes, "no masks here")


def cells(tables: Tables) -> list[Cell]:
    """Each device × crop with the letter of its masks: A is what most devices found, ties by their order.

    A crop in which no device found a cell has no letters.
    """
    cases = {(row["run_id"], row["case_id"]): row for row in tables.cases}
    columns = heatmap.columns(tables.cases)
    by_column: dict[str, list[tuple[Row, Row]]] = {crop: [] for crop in columns.values()}
    for row in tables.masks.to_pylist():
        if (case := cases.get((row["run_id"], row["case_id"]))) and row["mask"]:
            by_column[columns[heatmap.case(case)]].append((case, row))
    name = _namer(tables.cases)
    found = []
    for crop, members in by_column.items():
        letters = _letters([(case["image_sha256"], row["mask"]) for case, row in members])
        is_empty = all(case["n_cells"] == 0 for case, _ in members)
        for case, row in members:
            beside = tables.agreement_of(case)
            state = (beside["agreement"] if beside else None) or NOT_COMPARED
            unstable = "±" if row["n_masks"] > 1 else ""
            letter = NO_CELLS if is_empty else letters[case["image_sha256"], row["mask"]] + unstable
            found.append(Cell(name(case), crop, state, letter, _detail(case, beside, row["n_masks"])))
    return found


def _namer(cases: Sequence[Row]) -> Callable[[Row], str]:
    """A function from a case to the name of its line: its device, and what of it is in no heading."""
    dimensions = identity.distinguishing(cases, ("node", "device"), identity.without(identity.CASE, identity.REQUEST))

    def name(case: Row) -> str:
        return f"{place(case)}{extras(case, dimensions)}"

    twins = Counter((name(case), heatmap.case(case)) for case in cases)
    return (lambda case: f"{name(case)}, {case['run_id']}") if any(n > 1 for n in twins.values()) else name


def _detail(case: Row, beside: Row | None, n_masks: int) -> str:
    n_cells = "cells unknown" if case["n_cells"] is None else count(case["n_cells"], "cell")
    text = f"{n_cells}, diameter {number(case['diameter_px'])} px"
    if n_masks > 1:
        text += f", {n_masks} different label images among the repetitions"
    if beside:
        ap50, ap90, iou = (number(beside[name]) for name in ("ap50", "ap90", "mean_iou"))
        text += f"; AP@0.5 {ap50}, AP@0.9 {ap90}, mean IoU {iou}"
    return text


def _letters(masks: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A letter for each distinct label image: A for the most frequent; numbers behind Z."""
    ordered = [mask for mask, _ in Counter(masks).most_common()]
    return {mask: ascii_uppercase[i] if i < len(ascii_uppercase) else str(i + 1) for i, mask in enumerate(ordered)}


AGREEMENT = Figure(
    "agreement", "Do all devices give the same masks",
    "devices × crops: the same letter is the same label image, bit by bit; the colour is the agreement with the node's "
    "own CPU", ("masks", "agreement"), draw, lambda tables: {"Masks": heatmap.numbers(cells(tables))},
)  # fmt: skip
