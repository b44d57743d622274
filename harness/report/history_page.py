"""All series over time → one HTML page that needs no network: small multiples with band, alarms and versions."""

from __future__ import annotations

from collections.abc import Callable

from harness.charts import history_chart, rendering
from harness.judge.alarms import Watch
from harness.judge.history import AGREEMENT, MASKS, TIME, Series
from harness.report.pages import template
from harness.results.alarm_text import finding_text, gap_texts, value_text
from harness.results.formatting import count, line_namer, size_label
from harness.results.history_rows import rank, rows, runs_of, state
from harness.results.notes import surrogate_notes
from harness.schema import Row
from harness.stats.levels import AGREEMENTS

# A value in the unit of its axis; everything else is memory.
SCALES = {TIME: (1, "s"), MASKS: (1, "cells"), AGREEMENT: (1, "masks")}
# What an axis needs besides its unit: cells come in whole numbers, and agreement is one of a few words.
AXES = {
    MASKS: {"labelExpr": "datum.value % 1 ? '' : datum.label"},
    AGREEMENT: {"values": list(range(len(AGREEMENTS))), "labelExpr": f"{list(AGREEMENTS)}[datum.value]"},
}


def build(watched: Watch) -> str:
    """The page as HTML."""
    order = sorted(watched.series, key=rank)
    runs = runs_of(watched.series)
    name = line_namer([each.last.place for each in order], ("node", "protocol"))
    figures = [_figure(each, i, runs, name) for i, each in enumerate(order)]
    findings = [("alarm", each) for each in watched.alarms] + [("suspect", each) for each in watched.suspects]
    return template("history.html").render(
        headline=headline(watched),
        run_id=watched.run_id,
        findings=[(state, each.series.id, each.series.selector, finding_text(each), each) for state, each in findings],
        gaps=gap_texts(watched.gaps),
        figures=figures,
        cautions=_cautions(watched),
        spec=rendering.script_json(history_chart.draw([], "").to_dict()) if figures else "{}",
        data=rendering.script_json([figure["rows"] for figure in figures]),
        axes=rendering.script_json([figure["axis"] for figure in figures]),
        policy=rendering.CONTENT_POLICY,
        embed=rendering.script_json(rendering.EMBED),
        bundle=rendering.bundle(),
    )


def headline(watched: Watch) -> str:
    """How things stand, in one sentence."""
    worse = sum(not each.is_improvement for each in watched.alarms)
    better = len(watched.alarms) - worse
    if not watched.alarms:
        return f"No alarm in {len(watched.series)} series"
    parts = [count(worse, "alarm")] if worse else []
    parts += [count(better, "improvement")] if better else []
    return f"{' and '.join(parts)} in {len(watched.series)} series"


def _figure(series: Series, number: int, runs: dict[str, list[Row]], name: Callable[[Row], str]) -> Row:
    place = series.last.place
    scale, unit = SCALES.get(series.metric, (1e-6, "MB"))
    metric = "cells" if series.metric == MASKS else series.metric.removesuffix("_bytes").replace("_", " ")
    what = f"{name(place)}, {size_label(place)}, {place['protocol']}: {metric}"
    return {
        "name": f"series-{number}",
        "state": state(series, len(series.points) - 1),
        "title": f"{place['node']} · {what}",
        "axis": {"title": unit, **AXES.get(series.metric, {})},
        "caption": _caption(series),
        "rows": rows(series, scale, runs),
    }


def _caption(series: Series) -> str:
    band, runs = series.last.judged.band, count(len(series.points), "run")
    now = value_text(series.metric, series.last.value)
    usual = f", usual {value_text(series.metric, band.low)} to {value_text(series.metric, band.high)}" if band else ""
    return f"{state(series, len(series.points) - 1)}: {now}{usual}; {runs}"


def _cautions(watched: Watch) -> list[str]:
    """What a reader must know before believing a line."""
    places = [each.last.place for each in watched.series]
    parts = []
    if any(place["workload"] == "simulated" for place in places):
        parts.append("Simulated workload: some of these series are no measurements.")
    return parts + surrogate_notes(places)
