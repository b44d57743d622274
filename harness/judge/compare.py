"""Compare two sets of results: the matching cases, whether they are comparable, and the verdict on the ratio."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from harness.errors import CellbenchError
from harness.judge.selection import DAY_S, Side
from harness.machine import facts
from harness.schema import Row, identity
from harness.stats import verdict, watch
from harness.stats.difference import HISTORY_MIN, INCONCLUSIVE, MARGIN, UNITS_MIN
from harness.stats.verdict import MORE_MAX, PROCESS_PAIRS, Run, Verdict

MISSING, FAILED, NOT_COMPARABLE = "MISSING", "FAILED", "NOT COMPARABLE"

# Where each side has a single value of one of these parts and they differ, that is the compared difference: it is not
# used for matching, nor are the columns that depend on it.
MAY_VARY = {
    identity.MACHINE: ("node", "device_name", "torch_threads"),
    identity.DEVICE: (),
    ("variant",): identity.EXECUTION,
    ("torch_threads",): (),
}
# The name of a case, and the columns that are known where it failed.
LABELS = ("node", "device", "crop", "protocol", "variant")
REQUEST = (*identity.PLACE, *identity.REQUEST)
Name = tuple[Any, ...]
# Facts that every row has in a column of its own, and those of the moment, which always differ.
NOT_A_DIFFERENCE = {fact.name for group in ("at this moment", "workload") for fact in facts.GROUPS[group]}


class Line(NamedTuple):
    """The rows of one case: the measurements and the failures of either side."""

    a: list[Row]
    b: list[Row]
    failed_a: list[Row]
    failed_b: list[Row]


@dataclass(frozen=True)
class ComparedCase:
    """One case on both sides: its name, the medians in s, the verdict and why, and whether the masks agree.

    verdict: FASTER, SLOWER, SAME or INCONCLUSIVE with `found`, else MISSING, FAILED or NOT COMPARABLE with `why`.
    all_flagged: the sides, of A and B, whose every repetition carries a flag.
    same_masks is None where a side has none, or no cells are in any: equal empty masks prove nothing.
    cases: run_id and case_id of the rows of A, and of B.
    """

    case: tuple[str, ...]
    a_s: float | None
    b_s: float | None
    verdict: str
    why: str
    found: Verdict | None
    same_masks: bool | None
    all_flagged: tuple[str, ...]
    cases: tuple[tuple[tuple[str, str], ...], ...]

    @property
    def estimate(self) -> str:
        """The ratio in words: 'about 25 % slower'; empty without one."""
        if self.found is None:
            return ""
        ratio, percent = self.found.ratio, 100 * abs(self.found.ratio - 1)
        if not 0.5 <= ratio <= 2:
            return f"about {ratio:.2g} times as long" if ratio > 1 else f"about {1 / ratio:.2g} times as fast"
        direction = "slower" if ratio > 1 else "faster"
        return f"about {percent:.0f} % {direction}" if percent >= 0.5 else "about equal"


@dataclass(frozen=True)
class Comparison:
    """The result of `cellbench compare`.

    by: the columns that distinguish the cases. varied: the compared differences in addition to the selections, e.g.
    {"node": ("desk", "mac")}. overall: the geometric mean. differences: (node, fact, A's values, B's values) that
    differ.
    """

    a: Side
    b: Side
    by: tuple[str, ...]
    varied: dict[str, tuple[str, str]]
    margin: float
    cases: list[ComparedCase]
    overall: Verdict | None
    differences: list[tuple[str, str, str, str]]


def compare(a: Side, b: Side, margin: float = MARGIN) -> Comparison:
    """Match the cases of two sides and judge each. CellbenchError where they share results."""
    if common := _identities(a.blocks) & _identities(b.blocks):
        raise CellbenchError(
            f"both sides contain the same measurements of run {sorted(common)[0][0]}", f"{a.choice} and {b.choice}",
            "choose two sets that have nothing in common",
        )  # fmt: skip
    varied, free = _varied(a.blocks or a.failed, b.blocks or b.failed)
    lines, by = _lines(a, b, free)
    names = sorted(lines, key=lambda name: _place(name, by))
    reasons = {name: reason for name in names if (reason := _why_not(lines[name], free))}
    judged = [name for name in names if name not in reasons]
    evidence = [_case(a, b, lines[name]) for name in judged]
    found, overall = verdict.verdicts(evidence, margin) if evidence else ([], None)
    outcomes = {**reasons, **dict(zip(judged, found, strict=True))}
    cases = [_compared(name, lines[name], outcomes[name]) for name in names]
    return Comparison(a, b, by, varied, margin, cases, overall, differences(a.facts, b.facts))


def differences(before: Iterable[Row], after: Iterable[Row]) -> list[tuple[str, str, str, str]]:
    """Facts about nodes that differ: (node, fact, values before, values after); node is empty where nodes differ.

    Nodes of the same name are compared; where the two sides have none in common, all nodes of a side are combined.
    """
    sides = [list(before), list(after)]
    common = {row["node"] for row in sides[0]} & {row["node"] for row in sides[1]}
    found = []
    for node in sorted(common) or [""]:
        rows = [[row for row in side if not node or row["node"] == node] for side in sides]
        for fact in facts.FACTS:
            values = [sorted({str(row[fact.name]) for row in side if row.get(fact.name) is not None}) for side in rows]
            if fact.name not in NOT_A_DIFFERENCE and values[0] != values[1] and all(values):
                found.append((node, fact.name, ", ".join(values[0]), ", ".join(values[1])))
    return found


# ---------------------------------------------------------------- which cases


def _varied(a: list[Row], b: list[Row]) -> tuple[dict[str, tuple[str, str]], set[str]]:
    """The compared differences in addition to the selections, by column; and the columns not used for matching."""
    varied: dict[str, tuple[str, str]] = {}
    free: set[str] = set()
    for part, follows in MAY_VARY.items():
        values = [{identity.values(row, part) for row in side} for side in (a, b)]
        if all(len(side) == 1 for side in values) and values[0] != values[1]:
            free |= {*part, *follows}
            firsts = (a[0], b[0])
            for column in identity.distinguishing(firsts, (), part):
                before, after = (identity.short(identity.value(row, column)) for row in firsts)
                varied.setdefault(column, (before, after))
    return varied, free


def _lines(a: Side, b: Side, free: set[str]) -> tuple[dict[Name, Line], tuple[str, ...]]:
    """The rows of each case by its name, and the columns of the names.

    A case on one side only is compared with the case of the same name on the other side: it is other work.
    """
    same, called, request = (identity.without(columns, free) for columns in (identity.SERIES, LABELS, REQUEST))
    before, after = (_grouped(side.blocks, same) for side in (a, b))
    found = [(before.get(key, []), after.get(key, [])) for key in {**before, **after}]
    pairs = [pair for pair in found if all(pair)]
    lonely = (pair for pair in found if not all(pair))
    for alike in identity.grouped(lonely, lambda pair: identity.values((pair[0] or pair[1])[0], called)).values():
        joined = [row for rows, _ in alike for row in rows], [row for _, rows in alike for row in rows]
        pairs += [joined] if all(joined) else alike
    failures = [_grouped(side.failed, request) for side in (a, b)]

    def failed(keys: Iterable[Name]) -> Iterator[list[Row]]:
        return ([row for key in keys for row in side.get(key, [])] for side in failures)

    keys = [{identity.values(row, request) for row in (*pair[0], *pair[1])} for pair in pairs]
    rest = {**failures[0], **failures[1]}.keys() - set().union(*keys)
    lines = [Line(*pair, *failed(each)) for pair, each in zip(pairs, keys, strict=True)]
    lines += [Line([], [], *failed([key])) for key in rest]
    firsts = [next(row for rows in line for row in rows) for line in lines]
    by = identity.distinguishing(firsts, called, same)
    return {_name(row, by): line for row, line in zip(firsts, lines, strict=True)}, by


def _grouped(rows: list[Row], columns: tuple[str, ...]) -> dict[Name, list[Row]]:
    return identity.grouped(rows, lambda row: identity.values(row, columns))


def _name(row: Row, by: tuple[str, ...]) -> Name:
    return tuple(identity.short(identity.value(row, column)) for column in by)


# ---------------------------------------------------------------- one case


def _compared(name: tuple[str, ...], line: Line, outcome: Verdict | tuple[str, str]) -> ComparedCase:
    """One case with its outcome: the verdict, or the word for its absence and the reason."""
    sides = line.a, line.b
    a_s, b_s = (float(np.median([row["median_s"] for row in side])) if side else None for side in sides)
    masks = [{hash_ for row in side for hash_ in row["masks"] or []} for side in sides]
    has_cells = any(row["n_cells"] != 0 for side in sides for row in side)
    same = masks[0] == masks[1] if all(masks) and has_cells else None
    flagged = tuple(
        which for which, side in zip("AB", sides, strict=True)
        if side and all(row["n_flagged"] == row["n"] for row in side)
    )  # fmt: skip
    cases = tuple(tuple(dict.fromkeys((row["run_id"], row["case_id"]) for row in side)) for side in sides)
    if isinstance(outcome, Verdict):
        return ComparedCase(name, a_s, b_s, outcome.verdict, _advice(outcome), outcome, same, flagged, cases)
    return ComparedCase(name, a_s, b_s, *outcome, None, same, flagged, cases)


def _why_not(line: Line, free: set[str]) -> tuple[str, str] | None:
    """The word for a case without a ratio, and the reason; None if it has one."""
    a, b, failed_a, failed_b = line
    for which, ok, failed in (("A", a, failed_a), ("B", b, failed_b)):
        if not ok and failed:
            return FAILED, f"failed in {which}: {failed[0]['status']}"
    for which, ok in (("A", a), ("B", b)):
        if not ok:
            return MISSING, f"not measured in {which}"
    reasons = []
    for column in (*identity.SERIES, *identity.VERSIONS):
        values = [sorted({identity.short(identity.value(row, column)) for row in side}) for side in (a, b)]
        if values[0] != values[1] and column not in (*free, *identity.VERSIONS):
            reasons.append(f"{identity.word(column)} {', '.join(values[0])} and {', '.join(values[1])}")
            continue
        mixed = [side for side, found in zip("AB", values, strict=True) if len(found) > 1]
        reasons += [f"{side} mixes {identity.word(column)} {' and '.join(values['AB'.index(side)])}" for side in mixed]
    return (NOT_COMPARABLE, "; ".join(reasons)) if reasons else None


def _advice(found: Verdict) -> str:
    """The measurements that are missing for a verdict; empty where there is one."""
    if found.verdict != INCONCLUSIVE:
        return ""
    if found.low is not None:
        more = f"about {found.more}" if found.more else f"more than {MORE_MAX}"
        return f"measure {more} more {found.unit} per side"
    if found.unit == PROCESS_PAIRS:
        return f"too few processes: measure both sides with --blocks {UNITS_MIN} or more"
    return f"too few days: measure both sides with cellbench ab, or on {HISTORY_MIN} other days each"


def _case(a: Side, b: Side, line: Line) -> verdict.Case:
    """The runs of a case on both sides, and the unchanged ones of their series."""
    before, after = line.a, line.b
    machines = [identity.values(rows[0], identity.MACHINE) for rows in (before, after)]
    if machines[0] == machines[1]:
        before, after = _aligned(before, after)
        sides = _runs(before), _runs(after)
    else:  # one run on both sides is not one hour of one machine
        sides = _runs(before, " of A"), _runs(after, " of B")
    keys = [{row["series_key"] for row in rows} for rows in (before, after)]
    histories = [_usual(side, each, other) for side, other, each in ((a, b, keys[0]), (b, a, keys[1]))]
    return verdict.Case(*sides, histories[0], None if keys[0] == keys[1] else histories[1])


def _aligned(before: list[Row], after: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows in which simultaneous runs of both sides are one, with the processes that both have."""
    spans = [_spans(rows) for rows in (before, after)]
    same = {
        run: other for run, (begin, end) in spans[1].items() for other, (other_begin, other_end) in spans[0].items()
        if run == other or (begin < other_end and other_begin < end)
    }  # fmt: skip
    after = [row | {"run_id": same.get(row["run_id"], row["run_id"])} for row in after]
    blocks = [{(row["run_id"], row["block"]) for row in rows} for rows in (before, after)]
    shared = {run for run, _ in blocks[0]} & {run for run, _ in blocks[1]}
    first, second = (
        [row for row in rows if row["run_id"] not in shared or (row["run_id"], row["block"]) in blocks[0] & blocks[1]]
        for rows in (before, after)
    )
    return first, second


def _spans(rows: list[Row]) -> dict[str, tuple[datetime, datetime]]:
    """The start of the first and the last process of each run."""
    runs = identity.grouped(rows, itemgetter("run_id"))
    return {run: (min(row["begins"] for row in each), max(row["begins"] for row in each)) for run, each in runs.items()}


def _runs(rows: list[Row], suffix: str = "") -> list[Run]:
    found = identity.grouped(sorted(rows, key=itemgetter("run_id", "block")), itemgetter("run_id"))
    return [
        Run(
            name + suffix,
            min(row["begins"] for row in each).timestamp() / DAY_S,
            tuple(row["median_s"] for row in each),
        )
        for name, each in found.items()
    ]


def _usual(side: Side, keys: set[str], other: Side) -> list[Run]:
    """The unchanged runs of these series since their last accepted change, without those that are compared."""
    known = {run.name: run for key in keys for each in (side, other) for run in each.history.get(key, {}).values()}
    runs = [known[name] for name in sorted(known.keys() - {*side.runs, *other.runs})]
    names = [run.name for run in runs]
    accepted = {run for key in keys for each in (side, other) for run in each.accepted.get(key, ())}
    resets = {bisect_left(names, run) for run in accepted} - {len(names)}
    values = [float(np.exp(np.log(run.medians_s).mean())) for run in runs]
    return [runs[i] for i in watch.usual(values, resets, [run.begin_days for run in runs])]


def _identities(rows: list[Row]) -> set[tuple[Any, ...]]:
    return {(row["run_id"], row["case_id"], row["block"]) for row in rows}


def _place(name: tuple[str, ...], by: tuple[str, ...]) -> tuple[Any, ...]:
    """The place of a case in the table: crops by size, full last, everything else by name."""
    return tuple(
        (int(word) if word.isdigit() else 10**9, word) if column == "crop" else (0, word)
        for column, word in zip(by, name, strict=True)
    )
