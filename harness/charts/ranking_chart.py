"""The ranking of devices: one dot each with its interval, the fastest on top."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import altair as alt

from harness.charts import encodings, rendering
from harness.charts.rendering import GREY
from harness.results import speedups
from harness.results.formatting import Row, count, number, percent, seconds
from harness.results.notes import notes
from harness.results.tables import Tables

TITLE = "Which device is fastest"
N_RANKED = 60  # that a figure draws; all stand in the table
BAND_PX = 38


@dataclass(frozen=True)
class Ranked:
    """A device's place at one image size: seconds an image with their interval, and the ranks it may have."""

    series: str
    kind: str
    is_published: bool
    n_pixels: int
    median_s: float
    low_s: float | None
    high_s: float | None
    ranks: tuple[int, int]

    @property
    def rank(self) -> str:
        """'2', or '2–4' where intervals overlap."""
        first, last = self.ranks
        return str(first) if first == last else f"{first}–{last}"


def ranks(tables: Tables) -> tuple[list[Ranked], str, int]:
    """Devices from fastest to slowest at the largest size that most have; that size; how many series lack it."""
    if not tables.cases:
        return [], "", 0
    sizes = Counter((row["height_px"], row["width_px"]) for row in tables.cases)
    size = max(sizes, key=lambda each: (sizes[each], each[0] * each[1]))
    own = [
        (tables.name(row), row["backend"], False, row["median_s"], known.low, known.high)
        for row, known in zip(tables.cases, speedups.medians(tables), strict=True)
        if (row["height_px"], row["width_px"]) == size
    ]
    others = [
        (speedups.published_name(row), row["backend"], True, row["mean_s"], None, None)
        for row in (tables.published.to_pylist() if tables.published is not None else [])
        if (row["height_px"], row["width_px"]) == size
    ]
    found = [
        Ranked(name, kind, is_published, size[0] * size[1], time_s, low, high, _places((time_s, low, high), own))
        for name, kind, is_published, time_s, low, high in sorted(own + others, key=lambda each: each[3])
    ]
    lacking = len(set(tables.series)) - len({each[0] for each in own})
    return found, f"{size[0]} × {size[1]} px", lacking


def ranking(tables: Tables) -> alt.LayerChart:
    """Throughput of each device at one size, with its 95 % interval."""
    found, size, lacking = ranks(tables)
    heading_notes = [f"at {size}", "dot: of the median; line: its 95 % interval"] if found else []
    if lacking:
        heading_notes.append(
            f"{count(lacking, 'series')[:-1] if lacking > 1 else '1 series'} not measured at this size"
        )
    if len(found) > N_RANKED:
        heading_notes.append(f"the {N_RANKED} fastest of {len(found)}")
    heading = rendering.heading(TITLE, [*heading_notes, *notes(tables)])
    if not found:
        return rendering.empty(heading, "no repetition was timed")
    own = [each for each in found if not each.is_published]
    rows = [_row(each, i, len(own) > 1) for i, each in enumerate(found[:N_RANKED])]
    middle = max(row["value"] for row in rows) / 2
    for row in rows:  # the words stand beyond the interval, on the side where there is room
        far_right = row["value"] > middle
        row |= {"far_right": far_right, "anchor": (row["low"] if far_right else row["high"]) or row["value"]}
    chart = alt.layer(*_layers(rows), data=rendering.data(rows))
    names = ", ".join(row["series"] for row in rows[:10])
    described = f"{TITLE} at {size}. Dots of megapixels per second, fastest first: {names}."
    return rendering.theme(chart, heading, described, BAND_PX * len(rows))


def _row(each: Ranked, place: int, is_contest: bool) -> Row:
    """One device; a rank is told where there is more than one to be ranked, and published figures have none."""

    def rate(time_s: float | None) -> float | None:
        return each.n_pixels / time_s / 1e6 if time_s else None

    value = rate(each.median_s)
    rank = each.rank if is_contest and not each.is_published else ""
    return {
        "row": place, "series": each.series, "kind": "published" if each.is_published else each.kind, "value": value,
        "low": rate(each.high_s), "high": rate(each.low_s), "rank": rank, "time": seconds(each.median_s),
        "title": f"{rank}.  {each.series}" if rank else each.series,
        "label": f"{number(value)} Mpx/s · {number(3600 / each.median_s)} images/h",
        "interval": "–" if each.low_s is None else f"{seconds(each.low_s)} – {seconds(each.high_s)}",
    }  # fmt: skip


def _layers(rows: list[Row]) -> list[alt.Chart]:
    hue = {kind: look[0] for kind, look in encodings.KINDS.items()} | {"published": GREY}
    shape = {kind: look[1] for kind, look in encodings.KINDS.items()} | {"published": "triangle-up"}
    kinds = list(dict.fromkeys(row["kind"] for row in rows))

    def by_kind(channel: Any, values: dict[str, str], other: str) -> Any:
        scale = alt.Scale(domain=kinds, range=[values.get(kind, other) for kind in kinds])
        return channel("kind:N", legend=rendering.legend(), scale=scale)

    stroke, form = by_kind(alt.Stroke, hue, rendering.HUES[1]), by_kind(alt.Shape, shape, "triangle-down")
    fill = by_kind(alt.Fill, hue | {"published": "transparent"}, rendering.HUES[1])
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=[row["row"] for row in rows]))
    axis = alt.Axis(grid=True, gridColor=GREY, tickCount=5, format=".3~r")
    x = alt.X("value:Q", title="Megapixels per second", axis=axis, scale=alt.Scale(zero=True))
    base = alt.Chart().encode(y=y, x=x)
    tooltip = [alt.Tooltip(f"{name}:N", title=name) for name in ("series", "rank", "time", "interval", "label")]
    words = {"fontSize": 11, "color": GREY, "baseline": "middle"}
    spread = base.transform_filter("isValid(datum.low)")
    return [
        spread.mark_rule(strokeWidth=4, opacity=0.5, yOffset=9).encode(x=alt.X("low:Q"), x2="high:Q", stroke=stroke),
        base.mark_point(size=60, strokeWidth=1.4, opacity=1, yOffset=9).encode(
            stroke=stroke, fill=fill, shape=form, tooltip=tooltip
        ),
        alt.Chart().mark_text(align="left", dy=-9, dx=2, fontSize=12, color=GREY, limit=alt.ExprRef("width"))
        .encode(y=y, x=alt.value(0), text="title:N"),
        base.transform_filter("!datum.far_right").mark_text(**words, yOffset=9, align="left", dx=10)
        .encode(x=alt.X("anchor:Q"), text="label:N"),
        base.transform_filter("datum.far_right").mark_text(**words, yOffset=9, align="right", dx=-10)
        .encode(x=alt.X("anchor:Q"), text="label:N"),
    ]  # fmt: skip


def _places(mine: tuple[float, float | None, float | None], own: list[tuple[Any, ...]]) -> tuple[int, int]:
    """The best and the worst rank among one's own that the intervals allow; without intervals, the order's."""

    def ends(time_s: float, low: float | None, high: float | None) -> tuple[float, float]:
        return (time_s if low is None else low), (time_s if high is None else high)

    low, high = ends(*mine)
    others = [ends(*each[3:]) for each in own]
    surely_faster = sum(other_high < low for _, other_high in others)
    surely_slower = sum(other_low > high for other_low, _ in others)
    return surely_faster + 1, max(len(others) - surely_slower, surely_faster + 1)


def share_of_best(found: list[Ranked], each: Ranked) -> str:
    """How much of the fastest device's rate this one has."""
    return percent(found[0].median_s / each.median_s)
