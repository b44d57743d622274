"""Comparisons and alarms as people and programs read them: tables on stdout, what to know beside them on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.alarms import Finding, Watch
from harness.compare import MISSING, Compared, Comparison
from harness.history import AGREEMENT, MASKS, TIME, Series
from harness.show.wording import count, number, seconds
from harness.stats import watch
from harness.stats.ratio import MIN_BLOCKS, UNCLEAR, Ratio

Differences = Sequence[tuple[str, str, str, str]]


# ---------------------------------------------------------------- comparison


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Everything of a comparison, for programs."""
    return {
        "a": {"asked": found.a.asked, "runs": list(found.a.runs)},
        "b": {"asked": found.b.asked, "runs": list(found.b.runs)},
        "varied": {name: {"a": a, "b": b} for name, (a, b) in found.varied.items()},
        "unit": found.unit,
        "margin": found.margin,
        "cases": [_case_json(found, case) for case in found.cases],
        "overall": _ratio_json(found.overall, found.unit),
        "environment": environment_json(found.differences),
    }


def print_comparison(found: Comparison, form: str) -> None:
    """Print a comparison on stdout as table, json or md."""
    if form == "json":
        _print_json(comparison_json(found))
        return
    head = (*found.by, "A", "B", "B ÷ A", "95 % interval", "verdict", "")
    rows = [
        (*case.case, seconds(case.a_s), seconds(case.b_s), *_ratio_words(case.ratio), case.verdict, _note(case))
        for case in found.cases
    ]
    if found.overall:
        blank = ("",) * (len(found.by) - 1)
        words = _ratio_words(found.overall)
        rows.append(("geometric mean", *blank, "", "", *words, found.overall.verdict, _overall_note(found)))
    _print_rows(head, rows, len(found.by), form)
    _print_rows(("node", "fact", "A", "B"), found.differences, 4, form, title="What else differs")
    for note in comparison_notes(found):
        print(note, file=sys.stderr)


def comparison_notes(found: Comparison) -> list[str]:
    """What a reader of the verdicts must know."""
    sides = [f"{name}: {_runs(side.runs)}" for name, side in (("A", found.a), ("B", found.b))]
    said = ["; ".join(sides)]
    said += [f"compared is {column}: {a} with {b}" for column, (a, b) in found.varied.items()]
    unit = "runs" if found.unit == "run" else "blocks (fresh processes)"
    said.append(
        f"intervals from the medians of {unit}; SAME: the interval lies within ±{100 * found.margin:g} %; "
        f"p corrected for {count(sum(case.ratio is not None for case in found.cases), 'case')} (Holm)"
    )
    said += _hours(found)
    if {case.verdict for case in found.cases} <= {MISSING}:
        said.append(
            "no case is on both sides: choose a single device (node, variant) of each, as node=desk,device=cuda:0"
        )
    if not found.differences:
        known = found.a.facts and found.b.facts
        said.append("no fact about the nodes differs" if known else "facts about the nodes are not known on both sides")
    return said


def _hours(found: Comparison) -> list[str]:
    """What one run a side means: its hour looks like a change, unless other runs tell how far hours lie apart."""
    judged = [case.ratio for case in found.cases if case.ratio]
    if not found.is_apart or not judged:
        return []
    known = [each.spread for each in judged if each.spread]
    said = []
    if known:
        far = " to ".join(dict.fromkeys(f"{100 * most(each.sd for each in known):.1f} %" for most in (min, max)))
        said.append(f"one run a side: counted is that by their other runs these series spread by {far} anyway (SD)")
    if len(known) < len(judged):
        said.append(
            "one run a side, and too few other runs of some series to tell how far hours lie apart: what the machine "
            "did in that hour looks the same as what was changed; the geometric mean is judged beyond the margin only"
        )
    return said


def _runs(runs: Sequence[str]) -> str:
    if len(runs) > 3:
        return f"{len(runs)} runs, {runs[0]} to {runs[-1]}"
    return ", ".join(runs) or "nothing"


def left_out(found: Comparison) -> str:
    """The cases that the geometric mean is without, by name."""
    missing = ["/".join(case.case) for case in found.cases if case.ratio is None]
    return f"without {', '.join(missing)}" if missing else ""


def _overall_note(found: Comparison) -> str:
    """Why the geometric mean has no verdict where its cases have, and which cases it is without."""
    why = ""
    if found.overall.low is None:
        why = f"no interval: fewer than {MIN_BLOCKS} {found.unit}s a side have all the cases of a device"
    elif found.is_apart and found.overall.spread is None and found.overall.verdict == UNCLEAR:
        why = "one hour a side: only what is surely beyond the margin is judged"
    return "; ".join(text for text in (why, left_out(found)) if text)


def _note(case: Compared) -> str:
    masks = "masks differ" if case.same_masks is False and case.ratio else ""
    return "; ".join(text for text in (case.why, masks) if text)


def _ratio_words(found: Ratio | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    interval = "" if found.low is None else f"{found.low:.3f} – {found.high:.3f}"
    return f"{found.ratio:.3f}", interval


def _case_json(found: Comparison, case: Compared) -> dict[str, Any]:
    return {
        **dict(zip(found.by, case.case, strict=True)),
        "a_s": case.a_s,
        "b_s": case.b_s,
        **(_ratio_json(case.ratio, found.unit) or {}),
        "verdict": case.verdict,
        "why": case.why,
        "same_masks": case.same_masks,
    }


def _ratio_json(found: Ratio | None, unit: str) -> dict[str, Any] | None:
    if found is None:
        return None
    told = dict(vars(found))
    spread = told.pop("spread")
    return told | {"more_of": "run" if spread else unit, "run_spread": spread.sd if spread else None}


# ---------------------------------------------------------------- alarms


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
        _print_json(watch_json(found, every))
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
    _print_rows(("name", "state", "case", "protocol", "what", "since run"), rows, 6, form)
    changed = [(each.series.id, *difference[1:]) for _, each in findings for difference in each.differences]
    _print_rows(("name", "fact", "before", "since"), changed, 4, form, title="What changed at that time")
    gaps = [(gap.selector, gap.protocol, gap.why, gap.last_run or "never") for gap in found.gaps]
    _print_rows(("case", "protocol", "not measured", "last measured in run"), gaps, 4, form, title="Gaps")
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


def environment_json(differences: Differences) -> list[dict[str, str]]:
    """Facts that differ, for programs."""
    return [dict(zip(("node", "fact", "before", "after"), each, strict=True)) for each in differences]


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


# ---------------------------------------------------------------- printing


def _print_rows(head: Sequence[str], rows: Iterable[Sequence[str]], n_labels: int, form: str, title: str = "") -> None:
    """A table, or nothing where it has no rows; the first n_labels columns are words, the others numbers."""
    rows = [[str(value) for value in row] for row in rows]
    if not rows:
        return
    if form == "md":
        escaped = [[value.replace("|", r"\|") for value in row] for row in rows]
        lines = [head, ["---"] * len(head), *escaped]
        print("\n".join(([f"\n{title}\n"] if title else []) + ["| " + " | ".join(line) + " |" for line in lines]))
        return
    # Piped output is never wrapped: a program reads it.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    table = Table(box=None, pad_edge=False)
    for column, name in enumerate(head):
        is_number = n_labels <= column < len(head) - 2
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        table.add_row(*(value.replace("[", r"\[") for value in row))
    if title:
        console.print(f"\n{title}", style="bold", markup=False)
    console.print(table)


def _print_json(told: dict[str, Any]) -> None:
    json.dump(told, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
