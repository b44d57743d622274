"""The figure of repetitions: every call of a device in the order of measurement, relative to its case's median."""

from __future__ import annotations

from collections import Counter

import altair as alt

from harness.charts import rendering
from harness.charts.encodings import by_style
from harness.charts.figure import FEWEST, Drawing, Figure
from harness.charts.rendering import GREY
from harness.results import messages
from harness.results.formatting import Row, crop_name, deviation, number, percent, seconds, signed, size_label
from harness.results.messages import Message
from harness.results.notes import flag_note
from harness.results.tables import N_DRAWN, Tables
from harness.results.text_table import TextTable

N_DEVICES = 8  # the most that a figure draws
BAND_PX = 92
Drawn = tuple[Row, Row]  # a case, and one of its repetitions
REACH = 0.25  # half-height of a strip as a share of the median; larger deviations are drawn at its edge
KINDS = {
    "repetition": (rendering.HUES[4], rendering.HUES[4], "circle"),
    "flagged repetition": (rendering.HUES[3], rendering.HUES[3], "triangle-up"),
    "warm-up": (GREY, "transparent", "square"),
}


def draw(tables: Tables) -> Drawing:
    """Deviation from the median against minutes since the device's first call, with flags and warm-ups marked."""
    strips = _strips(tables)
    if not strips:
        return Drawing(None, "", "no repetition was timed")
    shown = sorted(strips, key=lambda name: -_spread(strips[name]))[:N_DEVICES]
    kept = [name for name in tables.series if name in shown]
    rows = [row for name in kept for row in _rows(name, strips[name])]
    if len(rows) < FEWEST:
        return Drawing(None, "", "; ".join(f"{row['time']} at {row['size']} on {row['strip']}" for row in rows))
    notes = []
    if beyond := sum(row["beyond"] for row in rows):
        notes.append(f"{beyond} beyond ±{percent(REACH)} are drawn at the edge")
    if len(kept) < len(strips):
        notes.append(f"the {len(kept)} of {len(strips)} series that spread most")
    if flags := flag_note(tables):
        notes.append(flags)
    if any(row["n"] > row["n_case_drawn"] for row in rows):
        notes.append("cases with many repetitions are drawn in part")
    description = f"Dots in the order of measurement for {', '.join(kept)}."
    subtitle = "Each call relative to the median of its case, in the order of measurement."
    return Drawing(alt.layer(*_layers(kept, rows)), subtitle, description, BAND_PX * len(kept), notes)


def message(tables: Tables) -> Message | None:
    """The number of timed repetitions near the median of their case; None if only a part of them was read."""
    timed = [each for strip in _strips(tables).values() for each in strip if each[1]["role"] == "timed"]
    if any(row["n"] > N_DRAWN for _, row in timed):
        return None  # of many repetitions the tables contain only every k-th
    return messages.repetitions([_deviation(*each) for each in timed])


def _strips(tables: Tables) -> dict[str, list[Drawn]]:
    """The repetitions of each series, each with its case, in the order of measurement."""
    cases = {(row["run_id"], row["case_id"]): row for row in tables.cases}
    names = {key: tables.name(case) for key, case in cases.items()}
    strips: dict[str, list[Drawn]] = {}
    for row in tables.calls:
        if case := cases.get(key := (row["run_id"], row["case_id"])):
            strips.setdefault(names[key], []).append((case, row))
    return {name: sorted(strip, key=lambda each: each[1]["started_at"]) for name, strip in strips.items()}


def _deviation(case: Row, row: Row) -> float:
    return row["elapsed_s"] / case["median_s"] - 1


def _spread(strip: list[Drawn]) -> float:
    return sum(min(REACH, abs(_deviation(*each))) for each in strip) / len(strip)


def _rows(name: str, strip: list[Drawn]) -> list[Row]:
    """The points of a series."""
    begin = strip[0][1]["started_at"]
    drawn = Counter((case["run_id"], case["case_id"], row["role"]) for case, row in strip)
    rows = []
    for case, row in strip:
        off = _deviation(case, row)
        kind = "warm-up" if row["role"] == "warmup" else "flagged repetition" if row["flags"] else "repetition"
        rows.append(
            {
                "strip": name, "minutes": (row["started_at"] - begin) / 1e6 / 60,
                "deviation": max(-REACH, min(REACH, off)), "beyond": abs(off) > REACH, "kind": kind,
                "off": deviation(row["elapsed_s"], case["median_s"]), "time": seconds(row["elapsed_s"]),
                "size": size_label(case), "flags": row["flags"] or "none",
                "process": "–" if row["block"] is None else row["block"], "n": row["n"],
                "n_case_drawn": drawn[case["run_id"], case["case_id"], row["role"]],
            }
        )  # fmt: skip
    return rows


def _layers(kept: list[str], rows: list[Row]) -> list[alt.Chart]:
    y = alt.Y("strip:N", axis=None, sort=None, scale=alt.Scale(domain=kept, paddingInner=0.3, paddingOuter=0.2))
    offset = alt.YOffset("deviation:Q", scale=alt.Scale(domain=[REACH, -REACH]))
    x = alt.X(
        "minutes:Q",
        title="Minutes since the device’s first call",
        axis=rendering.bottom_axis(),
    )
    styles = {kind: style for kind, style in KINDS.items() if any(row["kind"] == kind for row in rows)}
    stroke, fill, shape = (
        by_style(channel, "kind", styles, i) for i, channel in enumerate((alt.Stroke, alt.Fill, alt.Shape))
    )
    levels = [
        {"strip": name, "deviation": level, "label": "median" if level == 0 else signed(level)}
        for name in kept
        for level in (-REACH, 0, REACH)
    ]
    marks = alt.Chart(rendering.data(levels)).encode(y=y, yOffset=offset)
    fields = ("strip", "size", "time", "off", "kind", "flags", "process")
    return [
        marks.mark_rule(color=GREY, strokeWidth=0.7, opacity=0.5),
        marks.mark_text(align="right", dx=-4, fontSize=10).encode(x=alt.value(0), text="label:N"),
        alt.Chart(rendering.data([{"strip": name, "deviation": REACH} for name in kept]))
        .mark_text(align="left", dx=2, dy=-9, fontSize=12, limit=alt.ExprRef("width"))
        .encode(y=y, yOffset=offset, x=alt.value(0), text="strip:N"),
        alt.Chart(rendering.data(rows)).mark_point(size=30, strokeWidth=1.2, opacity=0.8).encode(
            y=y, yOffset=offset, x=x, stroke=stroke, fill=fill, shape=shape,
            tooltip=[alt.Tooltip(f"{name}:N", title="series" if name == "strip" else name) for name in fields],
        ),
    ]  # fmt: skip


def _numbers(tables: Tables) -> TextTable:
    """One row per case: its first warm-up, and its fastest and slowest repetition."""
    first: dict[tuple[str, str], float] = {}
    for row in tables.calls:
        if row["role"] == "warmup":
            first.setdefault((row["run_id"], row["case_id"]), row["elapsed_s"])
    rows = []
    for row in tables.cases:
        ends = (first.get((row["run_id"], row["case_id"])), row["min_s"], row["max_s"])
        offs = (deviation(time_s, row["median_s"]) for time_s in ends)
        rows.append((tables.name(row), crop_name(row), str(row["n"]), number(row["median_s"]), *offs))
    return TextTable.grouped(("crop", "n", "median s", "first warm-up", "fastest", "slowest"), rows)


REPETITIONS = Figure(
    "repetitions", "Repetitions relative to the median of their case",
    "every call relative to the median of its case, in the order of measurement; warm-ups and flags are marked",
    ("repetitions",), draw, lambda tables: {"Repetitions": _numbers(tables)},
    in_report=lambda tables: bool(tables.cases), message=message,
)  # fmt: skip
