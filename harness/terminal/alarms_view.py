"""Alarms and what else is watched, as people and programs read it: tables on stdout, the count on stderr."""

from __future__ import annotations

import sys
from typing import Any

from harness.judge.alarms import Finding, Watch
from harness.judge.history import Series
from harness.results.alarm_text import finding_text, metric_name, usual_text, value_text
from harness.results.formatting import count
from harness.terminal.table_printer import environment_json, print_json, print_rows


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
        (
            each.series.id,
            state,
            each.series.selector,
            str(each.series.last.place["protocol"]),
            finding_text(each),
            each.began,
        )
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


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "alarm": finding.series.id,
        "case": finding.series.selector,
        "protocol": finding.series.last.place["protocol"],
        "metric": finding.series.metric,
        "word": finding.word,
        "is_improvement": finding.is_improvement,
        "text": finding_text(finding),
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
    return f"{metric_name(series)} varies by {spread:.0f} % from run to run: too much to judge"


def _state(series: Series) -> str:
    expected = f", usual {usual_text(series)}" if series.last.judged.band else ""
    now, runs = value_text(series.metric, series.last.value), count(len(series.points), "run")
    return f"{metric_name(series)}: {now}{expected}; {runs}"
