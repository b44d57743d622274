"""The figure of the ranking: one bar per device with its 95 % interval, the fastest on top."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt

from harness.charts import encodings, rendering
from harness.charts.figure import Drawing, Figure
from harness.charts.rendering import GREY
from harness.results import messages, others, ranks
from harness.results.formatting import Row, listed, number, percent, seconds
from harness.results.notes import notes as limits
from harness.results.ranks import RankedDevice
from harness.results.tables import Tables
from harness.results.text_table import TextTable

N_RANKED = 60  # the most that a figure draws; the table has all
BAND_PX, BAR_PX = 38, 13
TITLES = {"interval": "95 % interval in s"}  # of the tooltip
VALUE_PX = 150  # width of the value at the end of a bar


def draw(tables: Tables) -> Drawing:
    """Bars of seconds per image at one size, with 95 % intervals, the fastest first."""
    found, size, n_lacking = ranks.ranks(tables)
    if not found:
        return Drawing(None, "", "no repetition was timed")
    if len(found) == 1:
        return Drawing(None, "", f"{seconds(found[0].median_s)} at {size} on {found[0].series}, the only device")
    has_interval = any(each.low_s is not None for each in found)
    mark = "Bar: median" + ("; line: 95 % interval" if has_interval else "; no interval below 3 processes")
    notes = []
    marks = {each.mark for each in found[:N_RANKED]}
    notes += [f"{mark}: {words}, without rank" for mark, words in others.MARKS.items() if mark in marks]
    if n_lacking:
        notes.append(f"{n_lacking} series not measured at this size")
    if n_other := len(set(tables.series) - {tables.name(row) for row in tables.comparable}):
        notes.append(f"{n_other} series of other work left out")
    if len(found) > N_RANKED:
        notes.append(f"the {N_RANKED} fastest of {len(found)}")
    is_contest = sum(not each.mark for each in found) > 1
    styles = encodings.series_styles(tables)
    rows = [_row(each, i, is_contest, styles) for i, each in enumerate(found[:N_RANKED])]
    named = listed([row["series"] for row in rows], 10)
    description = f"At {size}, bars of seconds per image, fastest first: {named}."
    subtitle = f"Seconds per image of {size}, lower is better. {mark}."
    chart = alt.layer(*_layers(rows), data=rendering.data(rows))
    return Drawing(chart, subtitle, description, BAND_PX * len(rows), notes)


def _row(each: RankedDevice, place: int, is_contest: bool, styles: Mapping[str, tuple[str, str]]) -> Row:
    """The row of a device. is_contest: whether several measured devices exist; only then they have ranks."""
    rank = each.rank if is_contest and each.place else ""
    bare = each.series.removesuffix(" (published)").removeprefix("reference: ")
    return {
        "row": place, "series": each.series, "value": each.median_s, "low": each.low_s, "high": each.high_s,
        "rank": rank or "–", "time": seconds(each.median_s), "interval": each.interval,
        "end": max(each.median_s, each.high_s or 0.0), "rate": f"{number(each.mpx_per_s)} Mpx/s",
        "title": f"{rank}.  {each.series}" if rank else f"{bare} {each.mark}".strip(),
        "images_per_hour": f"{number(3600 / each.median_s)} images/h",
        "hue": GREY if each.mark else styles[each.series][0], "opacity": 0.45 if each.mark else 1.0,
    }  # fmt: skip


def _layers(rows: list[Row]) -> list[alt.Chart]:
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=[row["row"] for row in rows]))
    room = f"({rendering.NARROW} ? {VALUE_PX // 2} : {VALUE_PX})"
    scale = alt.Scale(
        domain=[0, max(row["end"] for row in rows)], nice=False, range=[0, alt.ExprRef(f"width - {room}")]
    )
    x = alt.X("value:Q", title=None, axis=None, scale=scale)
    base = alt.Chart().encode(y=y, x=x)
    fields = ("series", "rank", "time", "interval", "rate", "images_per_hour")
    tooltip = [alt.Tooltip(f"{name}:N", title=TITLES.get(name, name.replace("_", " "))) for name in fields]
    text = alt.ExprRef(f"datum.time + ({rendering.NARROW} ? '' : ' · ' + datum.images_per_hour)")
    spread = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.4, yOffset=9, color=rendering.INK)
    has_spread = any(row["low"] is not None for row in rows)  # Vega prints a warning about a layer without rows
    hue = alt.Color("hue:N", scale=None, legend=None)
    return [
        base.mark_bar(height=BAR_PX, yOffset=9, opacity=alt.ExprRef("datum.opacity")).encode(
            x=x, x2=alt.X2Datum(0), color=hue, tooltip=tooltip
        ),
        *([spread.encode(x=alt.X("low:Q"), x2="high:Q")] if has_spread else []),
        alt.Chart().encode(y=y).mark_text(align="left", dy=-7, dx=1, fontSize=12, limit=alt.ExprRef("width"))
        .encode(x=alt.value(0), text="title:N"),
        alt.Chart().encode(y=y).mark_text(align="left", dy=9, dx=7, fontSize=12, text=text).encode(x=alt.X("end:Q")),
    ]  # fmt: skip


def _numbers(tables: Tables) -> TextTable:
    """The ranking as a table; those of others have no rank."""
    found, _, _ = ranks.ranks(tables)
    rows = [
        (
            each.series, each.rank, number(each.median_s), each.interval,
            number(each.mpx_per_s), number(3600 / each.median_s), percent(found[0].median_s / each.median_s),
        )
        for each in found
    ]  # fmt: skip
    return TextTable(("device", "rank", "median s", "95 % s", "Mpx/s", "images/h", "of the fastest"), {"": rows})


RANKING = Figure(
    "ranking", "Time for one image, by device",
    "devices from fastest to slowest at the largest size that most have, with 95 % intervals; a rank takes three "
    "processes a device, and is shared where these do not separate devices",
    ("medians", "processes"), draw, lambda tables: {"Ranking": _numbers(tables)}, cautions=limits,
    message=messages.ranking,
)  # fmt: skip
