"""Alarms and other watched series, for people and programs: tables on stdout, the count on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.judge.alarms import Finding, Watch
from harness.judge.history import Series
from harness.results.alarm_text import finding_text, metric_name, usual_text, value_text
from harness.results.formatting import Row, count
from harness.schema import identity
from harness.terminal.dimensions import dimensions_shown
from harness.terminal.table_printer import Column, environment_json, print_json, print_rows, stderr

SERIES = ("node", *identity.SERIES, "image")
GAP = (*identity.PLACE, *identity.REQUEST, "image")


def watch_json(found: Watch, every: bool = False) -> dict[str, Any]:
    """The state of all watched series, for programs; every: with all series, not only the unusual ones."""
    content = {
        "run_id": found.run_id,
        "count": dict(found.count()),
        "alarms": [_finding_json(each) for each in found.alarms],
        "suspects": [_finding_json(each) for each in found.suspects],
        "noisy": [_series_json(each) for each in found.noisy],
        "gaps": [
            {"case": gap.selector, **{name: gap.place[name] for name in GAP}, "last_run": gap.last_run, "why": gap.why}
            for gap in found.gaps
        ],
    }
    return content | ({"series": [_series_json(each) for each in found.series]} if every else {})


def print_watch(found: Watch, form: str, every: bool = False) -> None:
    """Print the state of all watched series on stdout, as table, json or md."""
    if form == "json":
        print_json(watch_json(found, every))
        return
    findings = [("ALARM", each) for each in found.alarms] + [("suspect", each) for each in found.suspects]
    lines = [(each.series, each.series.id, state, finding_text(each), each.began) for state, each in findings]
    lines += [(each, each.id, "noisy", _noise(each), each.points[0].run_id) for each in found.noisy]
    if every:
        named = {line[1] for line in lines}
        lines += [(each, "", each.last.judged.state, _state(each), "") for each in found.series if each.id not in named]
    about = _dimensions([series.last.place for series, *_ in lines], SERIES)
    rows = [(name, state, series.selector, *_words(series.last.place, about), what, since)
            for series, name, state, what, since in lines]  # fmt: skip
    columns = [
        Column("name", is_whole=True), Column("state", is_whole=True), Column("case", order=1, is_whole=True),
        *(Column(identity.word(name), order=3) for name in about),
        Column("what"), Column("since run", order=2, is_whole=True),
    ]  # fmt: skip
    print_rows(columns, rows, form)
    changed = [(each.series.id, *difference[1:]) for _, each in findings for difference in each.differences]
    columns = [Column("name", is_whole=True), Column("fact"), Column("before"), Column("since")]
    print_rows(columns, changed, form, title="What changed at that time")
    about = _dimensions([gap.place for gap in found.gaps], GAP)
    gaps = [(gap.selector, *_words(gap.place, about), gap.why, gap.last_run or "never") for gap in found.gaps]
    columns = [
        Column("case", is_whole=True), *(Column(identity.word(name), order=2) for name in about),
        Column("reason"), Column("last measured in run", order=1, is_whole=True),
    ]  # fmt: skip
    print_rows(columns, gaps, form, title="Missing this time")
    states = ", ".join(f"{n} {state}" for state, n in found.count().most_common())
    notes = stderr()
    notes.print(f"as of run {found.run_id}, {len(found.series)} series: {states or 'none'}", markup=False)
    if found.alarms:
        notes.print('to accept a change: cellbench accept NAME --why "…"', markup=False)


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "alarm": finding.series.id,
        "case": finding.series.selector,
        **{name: finding.series.last.place[name] for name in SERIES},
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
        **{name: series.last.place[name] for name in SERIES},
        "metric": series.metric,
        "method": series.method,
        "state": series.last.judged.state,
        "n_runs": len(series.points),
        "value": series.last.value,
        "usual": None if band is None else [band.low, band.middle, band.high],
    }


def _dimensions(places: Sequence[Row], columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that distinguish these places, except node, device and crop, which the name of a case has."""
    in_name = ("node", "device", "crop")
    return identity.without(dimensions_shown(places, columns, (*in_name, "protocol")), in_name)


def _words(place: Row, columns: Sequence[str]) -> list[str]:
    return [identity.short(identity.value(place, name)) for name in columns]


def _noise(series: Series) -> str:
    band = series.last.judged.band
    assert band is not None  # a series is noisy by its band
    return f"{metric_name(series)} varies by {100 * float(band.sd):.0f} % from run to run: too much to judge"


def _state(series: Series) -> str:
    band = series.last.judged.band
    expected = f", usual {usual_text(series.metric, band)}" if band else ""
    now, runs = value_text(series.metric, series.last.value), count(len(series.points), "run")
    return f"{metric_name(series)}: {now}{expected}; {runs}"
