"""The HTML page of all series over time, without network access: plots with baseline, alarms and versions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from harness.charts import history_chart, rendering
from harness.judge.alarms import Watch
from harness.judge.history import AGREEMENT, MASKS, TIME, Series
from harness.report import sparkline
from harness.report.pages import template
from harness.results.alarm_text import finding_text, gap_texts, metric_name, usual_text, value_text
from harness.results.formatting import count, line_namer, size_label
from harness.results.history_rows import rank, rows, runs_of, state
from harness.results.notes import surrogate_notes
from harness.schema import Row, identity
from harness.stats.levels import AGREEMENTS
from harness.stats.watch import LEARNING

# Factor and unit of the axis of each metric; all other metrics are memory.
SCALES = {TIME: (1, "s"), MASKS: (1, "cells"), AGREEMENT: (1, "masks")}
# Options of the axis in addition to its unit: cells are whole numbers, and agreement is an ordered set of words.
AXES = {
    MASKS: {"labelExpr": "datum.value % 1 ? '' : datum.label"},
    AGREEMENT: {"values": list(range(len(AGREEMENTS))), "labelExpr": f"{list(AGREEMENTS)}[datum.value]"},
}


def build(watched: Watch) -> str:
    """The page as HTML. watched: the judged series."""
    order = sorted(watched.series, key=rank)
    runs = runs_of(watched.series)
    name = line_namer([each.last.place for each in order], ("node", "protocol"))
    plotted = [each for each in order if len(each.points) >= sparkline.RUNS_MIN]
    figures = [_figure(each, i, runs, name) for i, each in enumerate(plotted)]
    numbers = {(each.key, each.metric, each.method): i for i, each in enumerate(plotted)}
    machines = identity.grouped(order, lambda each: str(each.last.place["node"]))
    findings = [("alarm", each) for each in watched.alarms] + [("suspect", each) for each in watched.suspects]
    return template("history.html").render(
        headline=headline(watched),
        run_id=watched.run_id,
        findings=[(state, each.series.id, each.series.selector, finding_text(each), each) for state, each in findings],
        gaps=gap_texts(watched.gaps),
        figures=figures,
        machines=[
            (node, anchor(node), [_row(each, name, numbers) for each in found]) for node, found in machines.items()
        ],
        n_plotted=sparkline.RUNS_MIN,
        width=sparkline.WIDTH_PX,
        height=sparkline.HEIGHT_PX,
        cautions=_cautions(watched),
        spec=rendering.script_json(history_chart.draw([], "").to_dict()) if figures else "{}",
        data=rendering.script_json([figure["rows"] for figure in figures]),
        axes=rendering.script_json([figure["axis"] for figure in figures]),
        times=rendering.script_json([figure["times"] for figure in figures]),
        dark_style=rendering.dark_style(),
        policy=rendering.CONTENT_POLICY,
        embed=rendering.script_json(rendering.EMBED),
        bundle=rendering.bundle(),
    )


def headline(watched: Watch) -> str:
    """The numbers of alarms and improvements among the judged series, in one sentence."""
    worse = sum(not each.is_improvement for each in watched.alarms)
    better = len(watched.alarms) - worse
    n_judged = sum(each.last.judged.state != LEARNING for each in watched.series)
    if not n_judged:
        return f"Too few runs to judge any of {len(watched.series)} series"
    if not watched.alarms:
        unknown = f"; too few runs in {len(watched.series) - n_judged}" if n_judged < len(watched.series) else ""
        return f"No alarm in {n_judged} series{unknown}"
    parts = [count(worse, "alarm")] if worse else []
    parts += [count(better, "improvement")] if better else []
    return f"{' and '.join(parts)} in {len(watched.series)} series"


def anchor(node: str) -> str:
    """The HTML id of a machine's section."""
    return f"machine-{hashlib.sha256(node.encode()).hexdigest()[:12]}"


def _row(series: Series, name: Callable[[Row], str], numbers: Mapping[tuple[Any, ...], int]) -> Row:
    """A series as a row of its machine's table. numbers: the number of each plot, by series."""
    place, band = series.last.place, series.last.judged.band
    return {
        "what": f"{size_label(place)}, {name(place)}, {place['protocol']}",
        "metric": _metric(series),
        "value": value_text(series.metric, series.last.value),
        "usual": usual_text(series.metric, band) if band else "–",
        "state": state(series, len(series.points) - 1),
        "n_runs": len(series.points),
        "line": sparkline.points([point.value for point in series.points]),
        "number": numbers.get((series.key, series.metric, series.method)),
    }


def _metric(series: Series) -> str:
    return "cells" if series.metric == MASKS else metric_name(series)


def _figure(series: Series, number: int, runs: dict[str, list[Row]], name: Callable[[Row], str]) -> Row:
    place = series.last.place
    scale, unit = SCALES.get(series.metric, (1e-6, "MB"))
    what = f"{name(place)}, {size_label(place)}, {place['protocol']}: {_metric(series)}"
    return {
        "name": f"series-{number}",
        "state": state(series, len(series.points) - 1),
        "title": f"{place['node']} · {what}",
        "axis": {"title": unit, **AXES.get(series.metric, {})},
        "times": history_chart.time_axis([point.started_at for point in series.points]),
        "caption": _caption(series),
        "rows": rows(series, scale, runs),
    }


def _caption(series: Series) -> str:
    band, runs = series.last.judged.band, count(len(series.points), "run")
    now = value_text(series.metric, series.last.value)
    usual = f", baseline {usual_text(series.metric, band)}" if band else ""
    return f"{state(series, len(series.points) - 1)}: {now}{usual}; {runs}"


def _cautions(watched: Watch) -> list[str]:
    """The notes that a reader needs before the lines."""
    places = [each.last.place for each in watched.series]
    parts = []
    if any(place["workload"] == "simulated" for place in places):
        parts.append("Simulated workload: some of these series are no measurements.")
    return parts + surrogate_notes(places)
