"""The ranking of devices: one dot each with its interval, the fastest on top."""

from __future__ import annotations

import altair as alt

from harness.charts import encodings, rendering
from harness.charts.encodings import by_style
from harness.charts.figure import Drawing, Figure
from harness.charts.rendering import GREY
from harness.results import ranks
from harness.results.formatting import Row, listed, number, percent, seconds
from harness.results.notes import notes
from harness.results.ranks import RankedDevice
from harness.results.tables import Tables
from harness.results.text_table import TextTable

N_RANKED = 60  # that a figure draws; all stand in the table
BAND_PX = 38
RATE_PX, RATES_PX = 88, 190  # room for a rate at the end of a line, and for that of images beside it


def draw(tables: Tables) -> Drawing:
    """Throughput of each device at one size, with its 95 % interval."""
    found, size, n_lacking = ranks.ranks(tables)
    if not found:
        return Drawing(None, [], "no repetition was timed")
    has_interval = any(each.low_s is not None for each in found)
    heading_notes = [f"at {size}", "dot: of the median" + ("; line: its 95 % interval" if has_interval else "")]
    if n_lacking:
        heading_notes.append(f"{n_lacking} series not measured at this size")
    if n_other := len(set(tables.series) - {tables.name(row) for row in tables.comparable}):
        heading_notes.append(f"{n_other} series of other work left out")
    if len(found) > N_RANKED:
        heading_notes.append(f"the {N_RANKED} fastest of {len(found)}")
    is_contest = sum(not each.is_published for each in found) > 1
    rows = [_row(each, i, is_contest) for i, each in enumerate(found[:N_RANKED])]
    named = listed([row["series"] for row in rows], 10)
    description = f"At {size}, dots of megapixels per second, fastest first: {named}."
    return Drawing(
        alt.layer(*_layers(rows), data=rendering.data(rows)), heading_notes, description, BAND_PX * len(rows)
    )


def _row(each: RankedDevice, place: int, is_contest: bool) -> Row:
    """One device; a rank is told where there is more than one to be ranked, and published figures have none."""

    def rate(time_s: float | None) -> float | None:
        return each.n_pixels / time_s / 1e6 if time_s else None

    rank = each.rank if is_contest and each.place else ""
    return {
        "row": place, "series": each.series, "kind": "published" if each.is_published else each.kind,
        "value": each.mpx_per_s, "low": rate(each.high_s), "high": rate(each.low_s), "rank": rank or "–",
        "time": seconds(each.median_s), "interval": each.interval,
        "title": f"{rank}.  {each.series}" if rank else each.series,
        "rate": f"{number(each.mpx_per_s)} Mpx/s", "images_per_hour": f"{number(3600 / each.median_s)} images/h",
    }  # fmt: skip


def _layers(rows: list[Row]) -> list[alt.Chart]:
    kinds = encodings.kind_styles(row["kind"] for row in rows)
    styles = {kind: (hue, shape, hue) for kind, (hue, shape) in kinds.items()}
    if "published" in styles:
        styles["published"] = (GREY, "triangle-up", "transparent")
    channels = (alt.Stroke, alt.Shape, alt.Fill)
    stroke, shape, fill = (by_style(channel, "kind", styles, i) for i, channel in enumerate(channels))
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=[row["row"] for row in rows]))
    axis = alt.Axis(grid=True, gridColor=GREY, tickCount=5, format=".3~r")
    x = alt.X("value:Q", title="Megapixels per second", axis=axis, scale=alt.Scale(zero=True))
    base = alt.Chart().encode(y=y, x=x)
    fields = ("series", "rank", "time", "interval", "rate", "images_per_hour")
    tooltip = [alt.Tooltip(f"{name}:N", title=name.replace("_", " ")) for name in fields]
    words = alt.Chart().encode(y=y)
    text = alt.ExprRef(f"datum.rate + ({rendering.NARROW} ? '' : ' · ' + datum.images_per_hour)")
    room = alt.ExprRef(f"width - ({rendering.NARROW} ? {RATE_PX} : {RATES_PX})")
    spread = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=4, opacity=0.5, yOffset=9)
    has_spread = any(row["low"] is not None for row in rows)  # Vega warns of a layer without rows
    return [
        *([spread.encode(x=alt.X("low:Q"), x2="high:Q", stroke=stroke)] if has_spread else []),
        base.mark_point(size=60, strokeWidth=1.4, opacity=1, yOffset=9).encode(
            stroke=stroke, fill=fill, shape=shape, tooltip=tooltip
        ),
        words.mark_text(align="left", dy=-9, dx=2, fontSize=12, color=GREY, limit=room)
        .encode(x=alt.value(0), text="title:N"),
        words.mark_text(align="right", dy=-9, fontSize=11, color=GREY, text=text).encode(x=alt.value("width")),
    ]  # fmt: skip


def _numbers(tables: Tables) -> TextTable:
    """The ranking as a table; published devices have no rank."""
    found, _, _ = ranks.ranks(tables)
    rows = [
        (
            each.series, each.rank, seconds(each.median_s), each.interval,
            number(each.mpx_per_s), number(3600 / each.median_s), percent(found[0].median_s / each.median_s),
        )
        for each in found
    ]  # fmt: skip
    return TextTable(("device", "rank", "median", "95 %", "Mpx/s", "images/h", "of the fastest"), {"": rows})


RANKING = Figure(
    "ranking", "Which device is fastest",
    "devices from fastest to slowest at the largest size that most have, with 95 % intervals; a rank takes three "
    "processes a device, and is shared where these do not separate devices",
    ("medians", "processes"), draw, lambda tables: {"Ranking": _numbers(tables)}, cautions=notes,
)  # fmt: skip
