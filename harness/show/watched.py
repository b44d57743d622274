"""Alarms and what else is watched, as people and programs read it: tables on stdout, the count on stderr."""

from __future__ import annotations

import sys
from typing import Any

from harness.alarms import Finding, Watch
from harness.history import AGREEMENT, MASKS, TIME, Series
from harness.show.printing import environment_json, print_json, print_rows
from harness.show.wording import count, number, seconds
from harness.stats import watch


def watch_json(found: Watch, every: bool = False) -> dict[str, Any]:
    """The state of everything that is watched, for programs; every: with all series, not only the unusual ones."""
    told = {
        "run_id": found.run_id,
        "count": dict(found.count()),
        "alarms": [_finding_json(each) for each in found.alarms],
        "suspects": [_finding_json(each) for each in found.suspects],
        "noisy": [_series_json(each) for each in found.noisy],
        "gaps": [
            {"case": gap.selector, "protocol": gap.protocol, "last_run": gap.last_run, "why": gap.why}
            for gap in found.gaps
        ],
    }
    return told | ({"series": [_series_json(each) for each in found.series]} if every else {})


def print_watch(found: Watch, form: str, every: bool = False) -> None:
    """Print the state of everything that is watched on stdout, as table, json or md."""
    if form == "json":
        print_json(watch_json(found, every))
        return
    findings = [("ALARM", each) for each in found.alarms] + [("suspect", each) for each in found.suspects]
    rows = [
        (each.series.id, state, each.series.selector, str(each.series.last.place["protocol"]), text(each), each.began)
        for state, each in findings
    ]
    rows += [
        (each.id, "noisy", each.selector, str(each.last.place["protocol"]), _noise(each), each.points[0].run_id)
        for each in found.noisy
    ]
    if every:
        shown = {row[0] for row in rows}
        rows += [
            ("", each.last.judged.state, each.selector, str(each.last.place["protocol"]), _state(each), "")
            for each in found.series
            if each.id not in shown
        ]
    print_rows(("name", "state", "case", "protocol", "what", "since run"), rows, 6, form)
    changed = [(each.series.id, *difference[1:]) for _, each in findings for difference in each.differences]
    print_rows(("name", "fact", "before", "since"), changed, 4, form, title="What changed at that time")
    gaps = [(gap.selector, gap.protocol, gap.why, gap.last_run or "never") for gap in found.gaps]
    print_rows(("case", "protocol", "not measured", "last measured in run"), gaps, 4, form, title="Gaps")
    states = ", ".join(f"{n} {state}" for state, n in found.count().most_common())
    print(f"as of run {found.run_id}, {len(found.series)} series: {states or 'none'}", file=sys.stderr)
    if found.alarms:
        print('if a change is meant to be: cellbench accept NAME --why "…"', file=sys.stderr)


def text(finding: Finding) -> str:
    """A finding in words: 'slower: 1.21 s instead of 1.05 s (+15.2 %; usual up to 1.11 s)'."""
    metric = finding.series.metric
    now, before = shown(metric, finding.value), shown(metric, finding.before)
    if finding.usual is None:
        return f"{finding.word}: {now}, before {before}"
    band = finding.series.last.judged.band
    side = (
        f"up to {shown(metric, band.high)}"
        if finding.series.last.judged.direction > 0
        else f"down to {shown(metric, band.low)}"
    )
    name = "" if metric == TIME else f" ({_metric(finding.series)})"
    change = f"{100 * (finding.change - 1):+.1f} %".replace("-", "−")
    return f"{finding.word}{name}: {now} instead of {shown(metric, finding.usual)} ({change}; usual {side})"


def shown(metric: str, value: float) -> str:
    """A value of a series with its unit."""
    if metric == TIME:
        return seconds(value)
    if metric == MASKS:
        return count(int(value), "cell")
    return watch.AGREEMENTS[int(value)] if metric == AGREEMENT else f"{number(value / 1e6)} MB"


def usual(series: Series) -> str:
    """The band of a series: '1.02 s to 1.13 s'."""
    band = series.last.judged.band
    return f"{shown(series.metric, band.low)} to {shown(series.metric, band.high)}"


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "alarm": finding.series.id,
        "case": finding.series.selector,
        "protocol": finding.series.last.place["protocol"],
        "metric": finding.series.metric,
        "word": finding.word,
        "is_improvement": finding.is_improvement,
        "text": text(finding),
        "began": finding.began,
        "confirmed": finding.confirmed,
        "value": finding.value,
        "usual": finding.usual,
        "environment": environment_json(finding.differences),
    }


def _series_json(series: Series) -> dict[str, Any]:
    band = series.last.judged.band
    return {
        "series_key": series.key,
        "case": series.selector,
        "protocol": series.last.place["protocol"],
        "metric": series.metric,
        "method": series.method,
        "state": series.last.judged.state,
        "n_runs": len(series.points),
        "value": series.last.value,
        "usual": None if band is None else [band.low, band.middle, band.high],
    }


def _noise(series: Series) -> str:
    spread = 100 * float(series.last.judged.band.sd)
    return f"{_metric(series)} varies by {spread:.0f} % from run to run: too much to judge"


def _state(series: Series) -> str:
    expected = f", usual {usual(series)}" if series.last.judged.band else ""
    return f"{_metric(series)}: {shown(series.metric, series.last.value)}{expected}; {count(len(series.points), 'run')}"


def _metric(series: Series) -> str:
    return series.metric.removesuffix("_bytes").replace("_", " ")
