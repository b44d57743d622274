"""Comparisons for people and programs: tables on stdout, notes on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.judge.compare import MISSING, ComparedCase, Comparison
from harness.results.formatting import count, listed, number
from harness.schema import identity
from harness.stats.difference import ALPHA
from harness.stats.verdict import DAYS, Verdict
from harness.terminal.table_printer import Column, environment_json, print_json, print_rows, stderr, stdout


def comparison_json(found: Comparison) -> dict[str, Any]:
    """All of a comparison, for programs."""
    return {
        "a": {"asked": found.a.choice, "runs": list(found.a.runs)},
        "b": {"asked": found.b.choice, "runs": list(found.b.runs)},
        "varied": {name: {"a": a, "b": b} for name, (a, b) in found.varied.items()},
        "margin": found.margin,
        "cases": [_case_json(found, case) for case in found.cases],
        "overall": found.overall and vars(found.overall),
        "environment": environment_json(found.differences),
    }


def print_comparison(found: Comparison, form: str) -> None:
    """Print a comparison on stdout in one of the forms."""
    if form == "json":
        print_json(comparison_json(found))
        return
    common = _common(found)
    if common:
        words = ", ".join(f"{identity.word(name)} {text}" for name, text in common.items())
        stdout(form).print(f"in all rows: {words}", markup=False)
    by = [name for name in found.by if name not in common]
    names = [tuple(word for name, word in zip(found.by, case.case, strict=True) if name in by) for case in found.cases]
    rows: list[tuple[str, ...]] = [
        (*name, number(case.a_s), number(case.b_s), *_ratio_words(case.found), case.verdict, case.estimate, _note(case))
        for name, case in zip(names, found.cases, strict=True)
    ]
    if (mean := found.overall) is not None:
        names.append(("geometric mean",))
        rows.append((*names[-1], *[""] * (len(by) + 1), *_ratio_words(mean), mean.verdict, "", _overall_note(found)))
    columns = [
        *(Column(identity.word(name), is_whole=True) for name in by),
        Column("A (s)", True, 1), Column("B (s)", True, 1), Column("B ÷ A", True), Column("95 % interval", True),
        Column("verdict", is_whole=True), Column("estimate", order=2), Column("note"),
    ]  # fmt: skip
    below = [(" ".join(name), row[-1]) for name, row in zip(names, rows, strict=True)] if form != "md" else []
    # A column that is empty in all rows is left out, and people read the notes below the table.
    shown = [i for i in range(len(columns)) if any(row[i] for row in rows) and not (below and i == len(columns) - 1)]
    print_rows([columns[i] for i in shown], [[row[i] for i in shown] for row in rows], form)
    for text in dict.fromkeys(text for _, text in below if text):
        which = [name for name, note in below if note == text]
        stdout(form).print(text if len(which) == len(below) else f"{listed(which)}: {text}", markup=False)
    facts = [Column("node", order=1), Column("fact"), Column("A"), Column("B")]
    print_rows(facts, found.differences, form, title="What else differs")
    for note in comparison_notes(found):
        stderr().print(note, markup=False)


def _common(found: Comparison) -> dict[str, str]:
    """The values that several cases share, by column; their size stays in the table."""
    values = {name: {case.case[i] for case in found.cases} for i, name in enumerate(found.by)}
    several = len(found.cases) > 1
    return {name: min(texts) for name, texts in values.items() if several and len(texts) == 1 and name != "crop"}


def comparison_notes(found: Comparison) -> list[str]:
    """The notes that a reader of the verdicts needs."""
    sides = [f"{name}: {_runs(side.runs)}" for name, side in (("A", found.a), ("B", found.b))]
    lines = ["; ".join(sides)]
    lines += [f"compared is {column}: {a} with {b}" for column, (a, b) in found.varied.items()]
    lines += _evidence(found)
    if {case.verdict for case in found.cases} <= {MISSING}:
        lines.append(
            "no case is on both sides: choose a single device (node, variant) of each, as node=desk,device=cuda:0"
        )
    if not found.differences:
        known = found.a.facts and found.b.facts
        lines.append(
            "no fact about the nodes differs" if known else "facts about the nodes are not known on both sides"
        )
    return lines


def _evidence(found: Comparison) -> list[str]:
    """The evidence behind the verdicts."""
    judged = [case.found for case in found.cases if case.found]
    if not judged:
        return []
    counts = dict.fromkeys(map(_units, judged))
    cases = count(len(judged), "case") + (" and their mean" if found.overall else "")
    lines = [
        f"evidence: {', '.join(counts)}; SAME: the interval lies within ±{100 * found.margin:g} %; FASTER, "
        f"SLOWER: p below {ALPHA}, corrected for {cases} (Holm)"
    ]
    spreads = [each.spread for each in judged if each.unit == DAYS and each.spread is not None]
    if spreads:
        far = " to ".join(dict.fromkeys(f"{100 * most(spreads):.1f} %" for most in (min, max)))
        lines.append(f"run-to-run variation between days: {far} (SD) without any change")
    if any(each.is_bound for each in judged):
        lines.append("runs of one day count once, so the intervals hold in at least 95 %")
    return lines


def _units(found: Verdict) -> str:
    """The numbers of days or pairs behind a verdict: '1 day of A and 3 days of B', '5 pairs of processes'."""
    plural, _, rest = found.unit.partition(" ")
    one, other = (f"{count(n, plural.removesuffix('s'))} {rest}".strip() for n in (found.n_before, found.n_after))
    return f"{one} of A and {other} of B" if found.unit == DAYS else one


def _runs(runs: Sequence[str]) -> str:
    if len(runs) > 3:
        return f"{len(runs)} runs, {runs[0]} to {runs[-1]}"
    return ", ".join(runs) or "nothing"


def left_out(found: Comparison) -> str:
    """The cases that are missing in the geometric mean, by name."""
    missing = ["/".join(case.case) for case in found.cases if case.found is None]
    return f"without {', '.join(missing)}" if missing else ""


def _overall_note(found: Comparison) -> str:
    """The reason why the geometric mean has no interval where its cases have, and the cases that it lacks."""
    why = "no run of a side has all cases on enough days" if found.overall and found.overall.low is None else ""
    return "; ".join(text for text in (why, left_out(found)) if text)


def _note(case: ComparedCase) -> str:
    masks = {True: "", False: "masks differ", None: "no masks with cells to compare"}[case.same_masks]
    flags = f"every repetition of {' and '.join(case.all_flagged)} carries a flag" if case.all_flagged else ""
    return "; ".join(text for text in (case.why, masks if case.found else "", flags) if text)


def _ratio_words(found: Verdict | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    interval = "" if found.low is None else f"{found.low:.3f} – {found.high:.3f}"
    return f"{found.ratio:.3f}", interval


def _case_json(found: Comparison, case: ComparedCase) -> dict[str, Any]:
    return {
        **dict(zip(found.by, case.case, strict=True)),
        "a_s": case.a_s,
        "b_s": case.b_s,
        **(vars(case.found) if case.found else {}),
        "verdict": case.verdict,
        "estimate": case.estimate,
        "why": case.why,
        "same_masks": case.same_masks,
        "all_flagged": list(case.all_flagged),
    }
