"""Comparisons as people and programs read them: tables on stdout, what to know beside them on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from harness.judge.compare import MISSING, Compared, Comparison
from harness.results.formatting import count, seconds
from harness.stats.ratio import MIN_BLOCKS, UNCLEAR, Ratio
from harness.terminal.table_printer import environment_json, print_json, print_rows


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
        print_json(comparison_json(found))
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
    print_rows(head, rows, len(found.by), form)
    print_rows(("node", "fact", "A", "B"), found.differences, 4, form, title="What else differs")
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
