"""Comparisons as people and programs read them: tables on stdout, what to know beside them on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from harness.judge.compare import MISSING, Compared, Comparison
from harness.results.formatting import count, seconds
from harness.stats.difference import ALPHA
from harness.stats.verdict import DAYS, Verdict
from harness.terminal.table_printer import environment_json, print_json, print_rows


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Everything of a comparison, for programs."""
    return {
        "a": {"asked": found.a.asked, "runs": list(found.a.runs)},
        "b": {"asked": found.b.asked, "runs": list(found.b.runs)},
        "varied": {name: {"a": a, "b": b} for name, (a, b) in found.varied.items()},
        "margin": found.margin,
        "cases": [_case_json(found, case) for case in found.cases],
        "overall": found.overall and vars(found.overall),
        "environment": environment_json(found.differences),
    }


def print_comparison(found: Comparison, form: str) -> None:
    """Print a comparison on stdout as table, json or md."""
    if form == "json":
        print_json(comparison_json(found))
        return
    head = (*found.by, "A", "B", "B ÷ A", "95 % interval", "verdict", "")
    rows = [
        (*case.case, seconds(case.a_s), seconds(case.b_s), *_ratio_words(case.found), case.verdict, _note(case))
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
    said += _evidence(found)
    if {case.verdict for case in found.cases} <= {MISSING}:
        said.append(
            "no case is on both sides: choose a single device (node, variant) of each, as node=desk,device=cuda:0"
        )
    if not found.differences:
        known = found.a.facts and found.b.facts
        said.append("no fact about the nodes differs" if known else "facts about the nodes are not known on both sides")
    return said


def _evidence(found: Comparison) -> list[str]:
    """What the verdicts rest on."""
    judged = [case.found for case in found.cases if case.found]
    if not judged:
        return []
    counts = dict.fromkeys(f"{each.n_before} and {each.n_after} {each.unit}" for each in judged)
    cases = count(len(judged), "case") + (" and their mean" if found.overall else "")
    said = [
        f"evidence of A and B: {', '.join(counts)}; SAME: the interval lies within ±{100 * found.margin:g} %; FASTER, "
        f"SLOWER: p below {ALPHA}, corrected for {cases} (Holm)"
    ]
    spreads = [each.spread for each in judged if each.unit == DAYS and each.spread is not None]
    if spreads:
        far = " to ".join(dict.fromkeys(f"{100 * most(spreads):.1f} %" for most in (min, max)))
        said.append(f"runs of different days lie {far} apart without any change (SD)")
    if any(each.is_bound for each in judged):
        said.append("runs of one day count once, so the intervals hold in at least 95 %")
    return said


def _runs(runs: Sequence[str]) -> str:
    if len(runs) > 3:
        return f"{len(runs)} runs, {runs[0]} to {runs[-1]}"
    return ", ".join(runs) or "nothing"


def left_out(found: Comparison) -> str:
    """The cases that the geometric mean is without, by name."""
    missing = ["/".join(case.case) for case in found.cases if case.found is None]
    return f"without {', '.join(missing)}" if missing else ""


def _overall_note(found: Comparison) -> str:
    """Why the geometric mean has no interval where its cases have, and which cases it is without."""
    why = "no run of a side has all cases on enough days" if found.overall and found.overall.low is None else ""
    return "; ".join(text for text in (why, left_out(found)) if text)


def _note(case: Compared) -> str:
    masks = "masks differ" if case.same_masks is False and case.found else ""
    return "; ".join(text for text in (case.why, masks) if text)


def _ratio_words(found: Verdict | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    interval = "" if found.low is None else f"{found.low:.3f} – {found.high:.3f}"
    return f"{found.ratio:.3f}", interval


def _case_json(found: Comparison, case: Compared) -> dict[str, Any]:
    return {
        **dict(zip(found.by, case.case, strict=True)),
        "a_s": case.a_s,
        "b_s": case.b_s,
        **(vars(case.found) if case.found else {}),
        "verdict": case.verdict,
        "why": case.why,
        "same_masks": case.same_masks,
    }
