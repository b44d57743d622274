"""The ranking of devices: one dot each with its interval, the fastest on top."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import altair as alt

from harness.charts import encodings, rendering
from harness.charts.encodings import by_style
from harness.charts.figure import Drawing, Figure
from harness.charts.rendering import GREY
from harness.results import speedups
from harness.results.formatting import Row, interval, listed, number, percent, seconds
from harness.results.notes import notes
from harness.results.tables import Tables
from harness.results.text_table import TextTable
from harness.stats.ranking import Place

N_RANKED = 60  # that a figure draws; all stand in the table
BAND_PX = 38
RATE_PX, RATES_PX = 88, 190  # room for a rate at the end of a line, and for that of images beside it


@dataclass(frozen=True)
class RankedDevice:
    """A device's place at one image size: seconds an image with their interval, and the ranks it may have.

    place: None of published figures, which are not ranked.
    """

    series: str
    kind: str
    is_published: bool
    n_pixels: int
    median_s: float
    low_s: float | None
    high_s: float | None
    place: Place | None

    @property
    def rank(self) -> str:
        """'2', or '2–4' where devices cannot be told apart; a dash for published ones."""
        if self.place is None:
            return "–"
        first, last = self.place.first, self.place.last
        return str(first) if first == last else f"{first}–{last}"

    @property
    def mpx_per_s(self) -> float:
        return self.n_pixels / self.median_s / 1e6

    @property
    def interval(self) -> str:
        """The median's 95 % interval, or a dash."""
        return interval(self.low_s, self.high_s, seconds)


def ranks(tables: Tables) -> tuple[list[RankedDevice], str, int]:
    """Devices from fastest to slowest at the largest size that most have; that size; how many series lack it.

    Only what did the same work is ranked.
    """
    if not tables.comparable:
        return [], "", 0
    names = {tables.name(row) for row in tables.comparable}
    sizes = Counter((row["height_px"], row["width_px"]) for row in tables.comparable)
    size = max(sizes, key=lambda each: (sizes[each], each[0] * each[1]))
    n_pixels = size[0] * size[1]
    medians = {
        (row["run_id"], row["case_id"]): known
        for row, known in zip(tables.cases, speedups.medians(tables), strict=True)
    }
    rows = [row for row in tables.cases if (row["height_px"], row["width_px"]) == size and tables.name(row) in names]
    own = []
    for row, place in zip(rows, speedups.places(tables, rows), strict=True):
        known = medians[row["run_id"], row["case_id"]]
        kind = row["backend"] or "unknown"
        own.append(RankedDevice(tables.name(row), kind, False, n_pixels, row["median_s"], known.low, known.high, place))
    others = [
        RankedDevice(speedups.published_name(row), row["backend"], True, n_pixels, row["mean_s"], None, None, None)
        for row in (tables.published.to_pylist() if tables.published is not None else [])
        if (row["height_px"], row["width_px"]) == size
    ]
    found = sorted(own + others, key=lambda each: each.median_s)
    lacking = len(names - {each.series for each in own})
    return found, f"{size[0]} × {size[1]} px", lacking


def draw(tables: Tables) -> Drawing:
    """Throughput of each device at one size, with its 95 % interval."""
    found, size, n_lacking = ranks(tables)
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
    found, _, _ = ranks(tables)
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
    "processes a device, and is shared where these do not tell devices apart",
    ("medians", "processes"), draw, lambda tables: {"Ranking": _numbers(tables)}, cautions=notes,
)  # fmt: skip
