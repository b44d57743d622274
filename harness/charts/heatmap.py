"""Matrices of devices × crops: what was measured, and which masks each device found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import altair as alt

from harness.charts import rendering
from harness.charts.rendering import GREY
from harness.results.formatting import Row, count, number, place
from harness.results.notes import provenance
from harness.results.tables import Tables

BAND_PX, SLIM_PX, N_ROOMY = 30, 18, 24  # height of a row, of one among many, and how many are many
WORDS_PX = 12
# States with hue, ink of the word on it, and what each means in the legend. The word is the second code.
COVERAGE = {
    "measured": (rendering.HUES[2], "#000000", "✓"),
    "measured, some flagged": (rendering.HUES[0], "#ffffff", "✓!"),
    "failed": (rendering.HUES[1], "#000000", "✕"),
    "skipped": (GREY, "#000000", "–"),
    "not measured": ("transparent", GREY, "·"),
}
AGREEMENT = {
    "identical": (rendering.HUES[2], "#000000"),
    "equivalent": (rendering.HUES[0], "#ffffff"),
    "close": (rendering.HUES[3], "#000000"),
    "different": (rendering.HUES[1], "#000000"),
    "not compared": ("transparent", GREY),
}


@dataclass(frozen=True)
class Cell:
    """One device and crop: its state, the word in it, and what its tooltip tells."""

    device: str
    crop: str
    state: str
    word: str
    detail: str


def coverage(tables: Tables) -> alt.LayerChart:
    """Which cases were measured, flagged, failed, skipped or are missing."""
    cells = coverage_cells(tables)
    states = Counter(cell.state for cell in cells)
    said = [f"{n} {state}" for state, n in states.items()]
    return _draw("What was measured", cells, COVERAGE, [", ".join(said), *provenance(tables)], "nothing was asked for")


def coverage_cells(tables: Tables) -> list[Cell]:
    """Every device × crop (× protocol, variant) that any device was asked for."""
    rows = tables.coverage.to_pylist()
    drifted = {
        (row["node"], row["device"], row["crop"], row["protocol"], row["variant"]): row["n_flagged"]
        for row in tables.cases
    }
    columns = _columns(rows)
    found = {(place(row), columns[_what(row)]): row for row in rows}
    names = dict.fromkeys(columns[key] for key in sorted(columns, key=lambda key: key[0]))
    cells = []
    for device in dict.fromkeys(map(place, rows)):
        for crop in names:
            row = found.get((device, crop))
            if row is None:
                cells.append(Cell(device, crop, "not measured", "·", "no row in the results"))
                continue
            key = (row["node"], row["device"], row["crop"], row["protocol"], row["variant"])
            state = _state(row, drifted.get(key, row["n_flagged"]))
            detail = f"{row['n_ok']} timed, {drifted.get(key, row['n_flagged'])} flagged, {row['n_failed']} failed"
            detail += f" ({row['statuses']})" if row["statuses"] else ""
            cells.append(Cell(device, crop, state, COVERAGE[state][2], detail))
    return cells


def agreement(tables: Tables) -> alt.LayerChart:
    """Which devices found the very same masks, by letter, and how far each agrees with its own CPU, by colour."""
    cells = agreement_cells(tables)
    said = ["same letter in a column: the same label image, bit by bit"]
    if any(cell.state != "not compared" for cell in cells):
        said.append("colour: beside stock cellpose on the same machine’s CPU")
    else:
        said.append("no mask pass was made: only the label images’ hashes are compared")
    return _draw("Do all devices give the same masks", cells, AGREEMENT, [*said, *provenance(tables)], "no masks here")


def agreement_cells(tables: Tables) -> list[Cell]:
    """Each device × crop with the letter of its masks: A is what most devices found, ties by their order."""
    cases = {(row["run_id"], row["case_id"]): row for row in tables.cases}
    compared: dict[tuple[str | None, str], Row] = {}
    for row in tables.agreement.to_pylist():
        if not row["diameter_asked_px"]:  # at the estimated diameter, as it is timed
            # The same case may have been compared in an older run than that of its times.
            compared[None, row["case_id"]] = compared[row["run_id"], row["case_id"]] = row
    columns = _columns(list(cases.values()))
    by_column: dict[str, list[tuple[Row, Row]]] = {}
    for row in tables.masks.to_pylist():
        if (case := cases.get((row["run_id"], row["case_id"]))) and row["mask"]:
            by_column.setdefault(columns[_what(case)], []).append((case, row))
    cells = []
    for crop in dict.fromkeys(columns[key] for key in sorted(columns, key=lambda key: key[0])):
        letters = _letters([(case["image_sha256"], row["mask"]) for case, row in by_column.get(crop, [])])
        for case, row in by_column.get(crop, []):
            beside = compared.get((case["run_id"], case["case_id"])) or compared.get((None, case["case_id"]))
            unstable = "±" if row["n_masks"] > 1 else ""
            cells.append(
                Cell(
                    place(case),
                    crop,
                    (beside and beside["agreement"]) or "not compared",
                    letters[case["image_sha256"], row["mask"]] + unstable,
                    _agreement_said(case, beside, row["n_masks"]),
                )
            )
    return cells


def _agreement_said(case: Row, beside: Row | None, n_masks: int) -> str:
    said = f"{count(case['n_cells'], 'cell')}, diameter {number(case['diameter_px'])} px"
    if n_masks > 1:
        said += f", {n_masks} different label images among the repetitions"
    if beside:
        said += (
            f"; AP@0.5 {number(beside['ap50'])}, AP@0.9 {number(beside['ap90'])}, mean IoU {number(beside['mean_iou'])}"
        )
    return said


def _letters(masks: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A letter for each distinct label image: A for the most frequent; numbers behind Z."""
    letters = {}
    for i, (mask, _) in enumerate(Counter(masks).most_common()):
        letters[mask] = ascii_uppercase[i] if i < len(ascii_uppercase) else str(i + 1)
    return letters


def _what(row: Row) -> tuple[Any, ...]:
    return row["height_px"] * row["width_px"], row["crop"], row["protocol"], row["variant"]


def _columns(rows: Sequence[Row]) -> dict[tuple[Any, ...], str]:
    """The heading of each kind of case: its crop, and whatever else differs."""
    protocols, variants = ({row[name] for row in rows} for name in ("protocol", "variant"))
    found = {}
    for row in rows:
        extras = [
            *([str(row["protocol"])] if len(protocols) > 1 else []),
            *([str(row["variant"])] if len(variants) > 1 else []),
        ]
        found[_what(row)] = " ".join([row["crop"], *extras])
    return found


def _state(row: Row, n_flagged: int) -> str:
    if row["n_failed"]:
        return "failed"
    if row["n_ok"]:
        return "measured, some flagged" if n_flagged else "measured"
    return "skipped" if row["n_skipped"] else "not measured"


def _draw(
    title: str, cells: Sequence[Cell], states: dict[str, tuple[str, ...]], notes: Sequence[str], empty: str
) -> alt.LayerChart:
    heading = rendering.heading(title, notes if cells else notes[1:])
    if not cells:
        return rendering.empty(heading, empty)
    devices, crops = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("device", "crop"))
    rows = [{**vars(cell), "ink": states[cell.state][1]} for cell in cells]
    shown = [state for state in states if any(cell.state == state for cell in cells)]
    axis = alt.Axis(
        domain=False, ticks=False, labelLimit=alt.ExprRef(f"{rendering.NARROW} ? 84 : 220"), labelPadding=6,
        labelOverlap=False,
    )  # fmt: skip
    y = alt.Y("device:N", title=None, sort=None, axis=axis, scale=alt.Scale(domain=devices))
    turned = alt.ExprRef(f"{rendering.NARROW} ? -90 : 0")
    top = alt.Axis(
        orient="top", domain=False, ticks=False, labelAngle=turned, labelPadding=6, labelOverlap=False,
        labelAlign=alt.ExprRef(f"{rendering.NARROW} ? 'left' : 'center'"),
        labelBaseline=alt.ExprRef(f"{rendering.NARROW} ? 'middle' : 'alphabetic'"),
    )  # fmt: skip
    x = alt.X("crop:N", title="Crop in px", sort=None, axis=top, scale=alt.Scale(domain=crops))
    hue = alt.Color(
        "state:N", legend=rendering.legend(), scale=alt.Scale(domain=shown, range=[states[name][0] for name in shown])
    )
    base = alt.Chart().encode(x=x, y=y)
    fields = ("device", "crop", "state", "detail")
    tooltip = [alt.Tooltip(f"{name}:N", title=name) for name in fields]
    outline = {"stroke": GREY, "strokeWidth": 0.5, "strokeOpacity": 0.6}
    words = base.mark_text(fontSize=WORDS_PX, baseline="middle", color=alt.ExprRef("datum.ink")).encode(text="word:N")
    chart = alt.layer(
        base.mark_rect(**outline, cornerRadius=2).encode(color=hue, tooltip=tooltip),
        words.properties(name="inside"),  # a page that colours words for its background leaves these as they are
        data=rendering.data(rows),
    )
    px = BAND_PX if len(devices) <= N_ROOMY else SLIM_PX
    described = f"{title}. A matrix of {count(len(devices), 'device')} and {count(len(crops), 'crop')}."
    return rendering.theme(chart, heading, described, px * len(devices))
