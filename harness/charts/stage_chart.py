"""The figure of the stage pass: one bar per device and crop, divided into shares by network pass and stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import altair as alt

from harness.charts import rendering
from harness.charts.encodings import by_style
from harness.charts.figure import Drawing, Figure, Remarks
from harness.results import advice, sentences, stage_catalogue
from harness.results.formatting import Row, number, percent, seconds, short_name, size_label
from harness.results.messages import Message
from harness.results.stage_catalogue import UNKNOWN
from harness.results.tables import Tables
from harness.results.text_table import TextTable

N_CROPS = 4  # the most per device: the largest; the table has all
N_SERIES = 8  # with more series, only the largest crop of this number of them is drawn
BAR_PX, BAND_PX, WORDS_PX = 22, 50, 11
CHARACTER_PX = 0.58 * WORDS_PX  # mean width in the fonts of rendering.FONT
# Groups of stages in the order of the bars: hue, and an ink with a contrast of at least 4.5:1 on it. Neighbours
# alternate between dark and light hues. These hues do not stand for devices.
STYLES = {
    "network": (rendering.HUES[4], rendering.INKS[rendering.HUES[4]]),
    "dynamics and seeds": (rendering.HUES[3], rendering.INKS[rendering.HUES[3]]),
    "quality control": (rendering.HUES[2], rendering.INKS[rendering.HUES[2]]),
    "images, tiles and masks on the processor": (rendering.HUES[1], rendering.INKS[rendering.HUES[1]]),
    "not attributed": (rendering.GREY, rendering.ON_DARK_HUE),
    UNKNOWN: (rendering.HUES[0], rendering.INKS[rendering.HUES[0]]),
}
SHORT = {"dynamics and seeds": "dynamics", "images, tiles and masks on the processor": "processor", UNKNOWN: "unknown"}


def draw(tables: Tables) -> Drawing:
    """Bars of the shares of stages in one call of the stage pass, by device and network pass."""
    series = advice.by_series(tables)
    if not series:
        return Drawing(None, "", "no stage pass was made")
    notes = []
    n_crops = N_CROPS if len(series) <= N_SERIES else 1
    if n_crops == 1:
        notes.append(f"the largest crop of {N_SERIES} of {len(series)} series, one of each device model first")
        series = _chosen(series)
    elif any(len(cases) > n_crops for cases in series.values()):
        notes.append(f"the {n_crops} largest crops of each device")
    rows: list[str] = []
    headings: list[Row] = []
    parts: list[Row] = []
    for title, cases in series.items():
        headings.append({"row": _row_key(rows, ""), "title": title})
        for case in cases[-n_crops:]:
            row = _row_key(rows, f"{size_label(case[0])}\t{seconds(case[0]['total_s'])}")
            parts += [{"row": row, "series": title, **part} for part in _parts(case)]
    description = f"Stacked bars of the shares of cellpose's stages in one call, for {', '.join(series)}."
    calls = sorted({case[0]["n"] for cases in series.values() for case in cases})
    n = f"n = {' to '.join(map(str, dict.fromkeys((calls[0], calls[-1]))))}"
    subtitle = f"Share of one call, from left to right as it runs. Medians of the stage pass ({n})."
    return Drawing(alt.layer(*_layers(rows, headings, parts)), subtitle, description, BAND_PX * len(rows), notes)


def message(tables: Tables) -> Message | None:
    """The share of the network at the largest image of each device; None for more than two devices."""
    largest = {title: cases[-1] for title, cases in advice.by_series(tables).items()}
    if not 0 < len(largest) <= 2:
        return None
    shares = {
        title: sum(share for (_, stage), share in advice.shares(case).items() if stage == "network")
        for title, case in largest.items()
    }
    where = {
        title: f"{short_name(case[0]['device_name'])} at {sentences.size(size_label(case[0]))}"
        for title, case in largest.items()
    }
    each = ", ".join(f"{percent(share)} on {where[title]}" for title, share in shares.items())
    return Message(f"The network’s share of a call: {each}")


def remarks(tables: Tables) -> dict[str, Remarks]:
    """Advice and findings of the stage pass for each device, in sentences."""
    return {
        title: Remarks(*(list(map(sentences.sentence, each)) for each in found))
        for title, found in advice.remarks(tables).items()
    }


def _chosen(series: dict[str, list[list[Row]]]) -> dict[str, list[list[Row]]]:
    """The N_SERIES series that a figure draws: the first of each device model, then the others."""
    models: dict[str, str] = {}
    for title, cases in series.items():
        models.setdefault(cases[-1][0]["device_name"], title)
    first = set(models.values())
    order = sorted(series, key=lambda title: title not in first)[:N_SERIES]
    return {title: cases for title, cases in series.items() if title in order}


def _row_key(rows: list[str], label: str) -> str:
    """Add a row to the vertical axis and return its key.

    The axis shows the text after the first tab, one line per tab.
    """
    rows.append(f"{len(rows)}\t{label}")
    return rows[-1]


def _parts(case: Sequence[Row]) -> list[Row]:
    """The parts of a case from left to right: by network pass, within it by group of stages."""
    passes, stages = advice.passes(case), stage_catalogue.in_order(row["stage"] for row in case)
    groups, styles = stage_catalogue.groups(), list(STYLES)

    def group(row: Row) -> str:
        known = groups.get(row["stage"], UNKNOWN)
        return known if known in STYLES else UNKNOWN

    def place(row: Row) -> tuple[int, int, int]:
        return passes.index(row["stage_pass"]), styles.index(group(row)), stages.index(row["stage"])

    found, begin = [], 0.0
    for row in sorted(case, key=place):
        end = begin + row["share"]
        found.append(
            {
                "begin": begin,
                "end": end,
                "pass": row["stage_pass"],
                "stage": stage_catalogue.label(row["stage"]),
                "group": group(row),
                "time": seconds(row["median_s"]),
                "share": percent(row["share"], 1),
            }
        )
        begin = end
    return found


def _layers(rows: list[str], headings: list[Row], parts: list[Row]) -> list[alt.Chart]:
    y = alt.Y(
        "row:N",
        title=None,
        sort=None,
        scale=alt.Scale(domain=rows),
        axis=alt.Axis(
            domain=False, ticks=False, labelExpr="slice(split(datum.label, '\\t'), 1)", labelOffset=-7, labelPadding=6
        ),
    )
    axis = rendering.bottom_axis(format="%")
    x = alt.X("begin:Q", title="Share of the call", axis=axis, scale=alt.Scale(domain=[0, 1], nice=False))
    hues = {group: STYLES[group] for group in STYLES if any(part["group"] == group for part in parts)}
    hue = by_style(alt.Color, "group", hues, 0)
    tooltip = [alt.Tooltip(f"{field}:N", title=field) for field in ("series", "pass", "stage", "time", "share")]

    def layer(values: list[Row], name: str) -> alt.Chart:
        return alt.Chart(rendering.data(values), name=name).encode(y=y)

    passes = _spans(parts, ("row", "pass"), _pass_words)
    words = {"fontSize": WORDS_PX, "baseline": "middle", "text": alt.ExprRef(_fitting("datum.long", "datum.short"))}
    return [
        layer(parts, "parts")
        .mark_bar(height=BAR_PX, stroke=rendering.PAPER, strokeWidth=0.7)
        .encode(x=x, x2="end:Q", color=hue, tooltip=tooltip),
        # A thin line on the left border of each network pass, from the bottom of the bar up to the pass's name.
        layer(passes, "borders")
        .mark_tick(orient="vertical", size=BAR_PX + 16, thickness=1, yOffset=-8, color=rendering.GREY)
        .encode(x=x),
        layer(passes, "passes")
        .mark_text(**words, align="left", dx=4, dy=-BAR_PX / 2 - 8)
        .encode(x=x),
        layer(_spans(parts, ("row", "pass", "group"), _group_words), "inside")
        .mark_text(**words, color=alt.ExprRef("datum.ink"))
        .encode(x=alt.X("middle:Q")),
        layer(headings, "headings")
        .mark_text(
            align="left", fontSize=13, fontWeight="bold", dy=BAND_PX / 6,
            limit=alt.ExprRef("width"), text=alt.ExprRef("datum.title"),
        )
        .encode(x=alt.XDatum(0)),
    ]  # fmt: skip


def _spans(parts: list[Row], keys: tuple[str, ...], words: Callable[[Row, str], Row]) -> list[Row]:
    """Neighbouring parts with equal keys as one span: its position, and its text in a long and a short form."""
    found = []
    for _, group in groupby(parts, key=lambda part: tuple(part[key] for key in keys)):
        members = list(group)
        begin, end = members[0]["begin"], members[-1]["end"]
        place = {"row": members[0]["row"], "begin": begin, "middle": (begin + end) / 2, "room": end - begin}
        found.append(place | words(members[0], percent(end - begin)))
    return found


def _pass_words(part: Row, share: str) -> Row:
    if part["pass"] == "none":
        return {"long": f"outside {share}", "short": ""}
    return {"long": f"{part['pass']} pass {share}", "short": part["pass"]}


def _group_words(part: Row, share: str) -> Row:
    group = part["group"]
    return {"long": f"{SHORT.get(group, group)} {share}", "short": share, "ink": STYLES[group][1]}


def _fitting(*texts: str) -> str:
    """An expression of Vega for the first text that fits into its span, or an empty text."""
    tests = [f"datum.room * width > {CHARACTER_PX} * length({text}) + 8 ? {text} : " for text in texts]
    return "".join(tests) + "''"


def _numbers(tables: Tables) -> TextTable:
    """The table of times: one row per stage, one column per network pass."""
    cases = advice.by_case(tables.stages.to_pylist())
    passes = advice.passes([row for case in cases for row in case])
    rows = []
    for case in cases:
        heading, total_s = f"{tables.name(case[0])}, {size_label(case[0])}", number(case[0]["total_s"])
        for line in advice.lines(case):
            by_pass = (number(line.by_pass_s[each]) if each in line.by_pass_s else "" for each in passes)
            total = (number(line.total_s), percent(line.share, 1))
            rows.append((heading, line.label, *by_pass, *total))
        rows.append((heading, "whole call", *("" for _ in passes), total_s, percent(1, 1)))
    labels = [f"{each} pass s" if each != "none" else "outside s" for each in passes]
    return TextTable.grouped(("stage", *labels, "all s", "share"), rows)


STAGES = Figure(
    "stages", "Where the time of one call goes", "where the time of one call goes, pass after pass", ("stages",), draw,
    lambda tables: {"Stages": _numbers(tables)}, remarks=remarks, message=message,
    glossary=lambda _: stage_catalogue.meanings(),
)  # fmt: skip
