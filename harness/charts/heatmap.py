"""Matrices of devices × crops with a word in each cell, and the same cells as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt

from harness.charts import rendering
from harness.charts.encodings import by_style
from harness.charts.figure import Drawing
from harness.charts.rendering import GREY
from harness.results.formatting import Row, count, crop_name, dimension_text
from harness.results.text_table import TextTable
from harness.schema import identity

BAND_PX, SLIM_PX, N_ROOMY = 30, 18, 24  # row height; row height above N_ROOMY devices; that limit
WORDS_PX = 12
N_DEVICES = 48  # the most rows; above it, devices with equal rows share one
KIND = identity.without(identity.REQUEST, identity.SIZE)  # in a heading after the crop, where it differs
OTHER = (rendering.OTHER_HUE, rendering.INKS[rendering.OTHER_HUE])  # an unknown state


@dataclass(frozen=True)
class Cell:
    """The cell of a device and a crop. word: in the cell; detail: in its tooltip."""

    device: str
    crop: str
    state: str
    word: str
    detail: str


def columns(rows: Sequence[Row]) -> dict[tuple[Any, ...], str]:
    """The heading of each kind of case (see `case`), smallest image first: its crop, and the columns that differ."""
    dimensions = identity.without(identity.distinguishing(rows, (), KIND), identity.SIZE)
    found = {}
    for row in sorted(rows, key=lambda row: (row["height_px"] or 0) * (row["width_px"] or 0)):
        found[case(row)] = " ".join([crop_name(row), *(dimension_text(row, name) for name in dimensions)])
    return found


def case(row: Row) -> tuple[Any, ...]:
    """The key of a column: the values that were requested, the same for all devices."""
    return identity.values(row, identity.REQUEST)


def numbers(cells: Sequence[Cell]) -> TextTable:
    """The cells as a table: device, crop, word, state and detail."""
    rows = [(cell.device, cell.crop, cell.word, cell.state, cell.detail) for cell in cells]
    return TextTable.grouped(("crop", "", "state", "detail"), rows, n_labels=4)


def _folded(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of one device for all that have the same row, with their number in its name."""
    by_device = identity.grouped(cells, lambda cell: cell.device)
    alike = identity.grouped(by_device.values(), lambda row: tuple((each.crop, each.state, each.word) for each in row))
    found = []
    for first, *rest in alike.values():
        shared = f"{len(rest) + 1} devices, such as " if rest else ""
        found += [replace(each, device=f"{shared}{each.device}") for each in first]
    return found


def draw(
    cells: Sequence[Cell], states: Mapping[str, tuple[str, str]], subtitle: str, empty: str, notes: Sequence[str] = ()
) -> Drawing:
    """A matrix of cells.

    states: hue, and ink of the word on it, by state. empty: the reason, if there are no cells.
    """
    if not cells:
        return Drawing(None, "", empty)
    if len(cells) == 1:
        [only] = cells
        return Drawing(None, "", f"{only.device}, {only.crop}: {only.state}; {only.detail}")
    n_devices = len({cell.device for cell in cells})
    if n_devices > N_DEVICES:
        cells = _folded(cells)
        notes = [*notes, f"devices with equal rows share one; there are {n_devices} devices"]
        if len({cell.device for cell in cells}) > N_DEVICES:
            kept = list(dict.fromkeys(cell.device for cell in cells))[:N_DEVICES]
            cells = [cell for cell in cells if cell.device in kept]
            notes = [*notes, f"the first {N_DEVICES} rows are drawn; the table has all"]
    shown = dict.fromkeys(state for state in states if any(cell.state == state for cell in cells))
    styles = {state: states.get(state, OTHER) for state in [*shown, *dict.fromkeys(cell.state for cell in cells)]}
    devices, crops = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("device", "crop"))
    rows = [{**vars(cell), "ink": styles[cell.state][1]} for cell in cells]
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
    x = alt.X("crop:N", title="Image side in px", sort=None, axis=top, scale=alt.Scale(domain=crops))
    base = alt.Chart().encode(x=x, y=y)
    fields = ("device", "crop", "state", "detail")
    tooltip = [alt.Tooltip(f"{name}:N", title=name) for name in fields]
    outline = {"stroke": GREY, "strokeWidth": 0.5, "strokeOpacity": 0.6}
    words = base.mark_text(fontSize=WORDS_PX, baseline="middle", color=alt.ExprRef("datum.ink")).encode(text="word:N")
    chart = alt.layer(
        base.mark_rect(**outline, cornerRadius=2).encode(
            color=by_style(alt.Color, "state", styles, 0, has_legend=len(styles) > 1), tooltip=tooltip
        ),
        words.properties(name="inside"),  # these words keep their ink on any background of the page
        data=rendering.data(rows),
    )
    px = BAND_PX if len(devices) <= N_ROOMY else SLIM_PX
    description = f"A matrix of {count(len(devices), 'device')} and {count(len(crops), 'crop')}."
    return Drawing(chart, subtitle, description, px * len(devices), notes)
