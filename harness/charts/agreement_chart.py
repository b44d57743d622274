"""The figure of mask agreement: equal masks across devices, and each device compared with the CPU of its machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from string import ascii_uppercase

from harness.charts import heatmap
from harness.charts.figure import Drawing, Figure
from harness.charts.heatmap import Cell
from harness.charts.rendering import HUES, INKS, QUIET
from harness.results import messages
from harness.results.formatting import Row, count, extras, number, place
from harness.results.tables import Tables
from harness.schema import identity

# States with hue, ink of the word on it, and the word, which repeats what the hue encodes.
NOT_COMPARED = "not compared"
NO_CELLS = "–"  # equal empty masks prove nothing
STATES = {
    "identical": (HUES[2], INKS[HUES[2]], "="),
    "equivalent": (HUES[0], INKS[HUES[0]], "≈"),
    "close": (HUES[3], INKS[HUES[3]], "~"),
    "different": (HUES[1], INKS[HUES[1]], "≠"),
    NOT_COMPARED: ("transparent", QUIET, ""),
}


def draw(tables: Tables) -> Drawing:
    """The agreement of each device's masks with those of its CPU, as sign and colour; without a mask pass, letters."""
    found, notes = cells(tables), []
    if any(cell.word == NO_CELLS for cell in found):
        notes.append(f"{NO_CELLS}: no device found a cell, so equal masks prove nothing")
    if any(cell.state != NOT_COMPARED for cell in found):
        subtitle = "Masks compared with those of stock Cellpose on the CPU of the same machine."
        words = {word: state for state, (_, _, word) in STATES.items() if any(cell.state == state for cell in found)}
        notes = [*(f"{word} {state}" for word, state in words.items() if word), *notes]
        if any(cell.state == NOT_COMPARED for cell in found):
            notes.append("same letter in a column: the same masks, bit by bit")
    else:
        subtitle = "Same letter in a column: the same masks, bit by bit. No mask pass was made."
    styles = {state: (hue, ink) for state, (hue, ink, _) in STATES.items()}
    return heatmap.draw(found, styles, subtitle, "no masks here", notes)


def cells(tables: Tables) -> list[Cell]:
    """Each device × crop with the sign of its agreement, or the letter of its masks.

    A: the masks that most devices found; ties by the order of devices. A crop in which no device found a cell has no
    letters.
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
            compared = tables.agreement_of(case)
            state = (compared["agreement"] if compared else None) or NOT_COMPARED
            unstable = "±" if row["n_masks"] > 1 else ""
            sign = STATES.get(state, ("", "", ""))[2] or letters[case["image_sha256"], row["mask"]]
            letter = NO_CELLS if is_empty else sign + unstable
            found.append(Cell(name(case), crop, state, letter, _detail(case, compared, row["n_masks"])))
    return found


def _namer(cases: Sequence[Row]) -> Callable[[Row], str]:
    """A function from a case to the name of its row: device, and differing columns that are in no heading."""
    dimensions = identity.distinguishing(cases, ("node", "device"), identity.without(identity.CASE, identity.REQUEST))

    def name(case: Row) -> str:
        return f"{place(case)}{extras(case, dimensions)}"

    twins = Counter((name(case), heatmap.case(case)) for case in cases)
    return (lambda case: f"{name(case)}, {case['run_id']}") if any(n > 1 for n in twins.values()) else name


def _detail(case: Row, compared: Row | None, n_masks: int) -> str:
    n_cells = "cells unknown" if case["n_cells"] is None else count(case["n_cells"], "cell")
    text = f"{n_cells}, diameter {number(case['diameter_px'])} px"
    if n_masks > 1:
        text += f", {n_masks} different label images among the repetitions"
    if compared:
        ap50, ap90, iou = (number(compared[name]) for name in ("ap50", "ap90", "mean_iou"))
        text += f"; AP@0.5 {ap50}, AP@0.9 {ap90}, mean IoU {iou}"
    return text


def _letters(masks: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A letter for each distinct label image: A for the most frequent; numbers after Z."""
    ordered = [mask for mask, _ in Counter(masks).most_common()]
    return {mask: ascii_uppercase[i] if i < len(ascii_uppercase) else str(i + 1) for i, mask in enumerate(ordered)}


AGREEMENT = Figure(
    "agreement", "Agreement of the masks",
    "devices × image sizes: how the masks agree with those of the machine’s own CPU; without a mask pass, the same "
    "letter is the same label image, bit by bit", ("masks", "agreement"), draw,
    lambda tables: {"Masks": heatmap.numbers(cells(tables))},
    message=messages.masks, in_report=lambda tables: len({cell.device for cell in cells(tables)}) > 1,
)  # fmt: skip
