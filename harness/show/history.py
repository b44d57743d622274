"""All series over time → one HTML page that needs no network: small multiples with band, alarms and versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from harness.alarms import WORDS, Watch
from harness.history import AGREEMENT, MASKS, TIME, VERSIONS, Series
from harness.show import drawing, historychart
from harness.show.watched import shown, text
from harness.show.wording import count, device_label, size_label
from harness.stats import changes
from harness.stats.watch import AGREEMENTS

Row = dict[str, Any]
FIRST = ("alarm", "suspect", "noisy")  # what is looked at first
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
    figures = [_figure(each, i, runs) for i, each in enumerate(order)]
    findings = [("alarm", each) for each in watched.alarms] + [("suspect", each) for each in watched.suspects]
    return template("history.html").render(
        headline=headline(watched),
        run_id=watched.run_id,
        findings=[(state, each.series.id, each.series.selector, text(each), each) for state, each in findings],
        gaps=watched.gaps,
        figures=figures,
        cautions=_cautions(watched),
        spec=drawing.script_json(historychart.draw([], "").to_dict()) if figures else "{}",
        data=drawing.script_json([figure["rows"] for figure in figures]),
        axes=drawing.script_json([figure["axis"] for figure in figures]),
        policy=drawing.CONTENT_POLICY,
        embed=drawing.script_json(drawing.EMBED),
        bundle=drawing.bundle(),
    )


def headline(watched: Watch) -> str:
    """How things stand, in one sentence."""
    worse = sum(not each.is_improvement for each in watched.alarms)
    better = len(watched.alarms) - worse
    if not watched.alarms:
        return f"No alarm in {len(watched.series)} series"
    said = [count(worse, "alarm")] if worse else []
    said += [count(better, "improvement")] if better else []
    return f"{' and '.join(said)} in {len(watched.series)} series"


def _figure(series: Series, number: int, runs: dict[str, list[Row]]) -> Row:
    place = series.last.place
    scale, unit = SCALES.get(series.metric, (1e-6, "MB"))
    metric = "cells" if series.metric == MASKS else series.metric.removesuffix("_bytes").replace("_", " ")
    what = f"{device_label(place)}, {size_label(place)}, {place['protocol']}: {metric}"
    return {
        "name": f"series-{number}",
        "state": state(series, len(series.points) - 1),
        "title": f"{place['node']} · {what}",
        "axis": {"title": unit, **AXES.get(series.metric, {})},
        "said": _said(series),
        "rows": rows(series, scale, runs),
    }


def rows(series: Series, scale: float, runs: dict[str, list[Row]]) -> list[Row]:
    """A row a run: value, band, state, marks; a row without a value where a run lacks it, since gaps stay gaps.

    runs: as of runs_of.
    """
    made = []
    steps = changes.change_points([point.value for point in series.points]) if _is_number(series) else []
    for i, point in enumerate(series.points):
        band = point.judged.band
        accepted = series.accepted.get(point.run_id)
        made.append(
            {
                "at": point.started_at.isoformat(),
                "run": point.run_id,
                "value": point.value * scale,
                "low": band.low * scale if band else None,
                "high": band.high * scale if band else None,
                "state": state(series, i),
                "said": shown(series.metric, point.value),
                "version": _changed(series, i),
                "accepted": f"accepted by {accepted.by}: {accepted.why}" if accepted else None,
                "level": "the level changed" if i in steps else None,
            }
        )
    first, last = made[0]["run"], made[-1]["run"]
    have = {row["run"] for row in made}
    blank = dict.fromkeys(made[0])
    missed = [
        blank | {"at": run["at"], "run": run["run"]}
        for run in runs.get(series.last.place["profile"], [])
        if first < run["run"] < last and run["run"] not in have and run["is_whole"]
    ]
    return sorted(made + (missed if series.metric == TIME else []), key=lambda row: row["run"])


def _is_number(series: Series) -> bool:
    return series.metric not in (MASKS, AGREEMENT)


def runs_of(every: Iterable[Series]) -> dict[str, list[Row]]:
    """The runs of each profile, and whether each was one of all cases rather than a re-run of a few."""
    by_run: dict[tuple[str, str], list[Any]] = {}
    for series in every:
        if series.metric == TIME:
            for point in series.points:
                by_run.setdefault((point.place["profile"], point.run_id), []).append(point.started_at)
    most = Counter[str]()
    for (profile, _), times in by_run.items():
        most[profile] = max(most[profile], len(times))
    found: dict[str, list[Row]] = {}
    for (profile, run), times in sorted(by_run.items(), key=lambda item: item[0][1]):
        is_whole = 2 * len(times) >= most[profile]
        found.setdefault(profile, []).append({"run": run, "at": min(times).isoformat(), "is_whole": is_whole})
    return found


def state(series: Series, index: int) -> str:
    """The state of a run as the page names it: alarms for the better are improvements."""
    judged = series.points[index].judged
    word = WORDS[series.metric].get(judged.direction, "")
    return "improvement" if judged.state == "alarm" and word in ("faster", "less memory") else judged.state


def _changed(series: Series, index: int) -> str | None:
    """What software is new since the run before."""
    if index == 0:
        return None
    before, now = series.points[index - 1].place, series.points[index].place
    new = [
        f"{name.removesuffix('_version')} {before[name]} → {now[name]}"
        for name in VERSIONS
        if before[name] != now[name] and before[name] and now[name]
    ]
    return ", ".join(new) or None


def _said(series: Series) -> str:
    band, runs = series.last.judged.band, count(len(series.points), "run")
    now = shown(series.metric, series.last.value)
    usual = f", usual {shown(series.metric, band.low)} to {shown(series.metric, band.high)}" if band else ""
    return f"{state(series, len(series.points) - 1)}: {now}{usual}; {runs}"


def rank(series: Series) -> int:
    """The place of a series among others: alarms first, then suspicions and noisy ones."""
    judged = series.last.judged.state
    return FIRST.index(judged) if judged in FIRST else len(FIRST) + (series.metric != TIME)


def _cautions(watched: Watch) -> list[str]:
    """What a reader must know before believing a line."""
    places = [each.last.place for each in watched.series]
    said = []
    if any(place["workload"] == "simulated" for place in places):
        said.append("Simulated workload: some of these series are no measurements.")
    if any(place["weights"] == "standin" for place in places):
        said.append("Stand-in weights: the network costs what cyto3’s costs, the masks are not cyto3’s.")
    return said


@cache
def template(name: str) -> jinja2.Template:
    """A page of harness/data, which may include others of them."""
    loader = jinja2.FunctionLoader(
        lambda part: resources.files("harness").joinpath(f"data/{part}").read_text(encoding="utf-8")
    )
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(loader=loader, **options).get_template(name)
