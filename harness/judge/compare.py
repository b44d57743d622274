"""Two sets of results side by side: which cases match, whether they may be compared, and what the ratio says."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import CellbenchError
from harness.judge.selection import Row, Side
from harness.machine import facts
from harness.schema import identity
from harness.stats import ratio, watch
from harness.stats.ratio import MARGIN, Ratio, Spread

MISSING, FAILED, NOT_COMPARABLE = "MISSING", "FAILED", "NOT COMPARABLE"

# Where each side has a single value of one of these parts and they differ, that is what is being compared: it takes no
# part in matching, nor does what follows from it.
MAY_VARY = {
    identity.MACHINE: ("node", "device_name", "torch_threads"),
    identity.DEVICE: (),
    ("variant",): identity.EXECUTION,
    ("torch_threads",): (),
}
# What a case is called, what is known of it where it failed, and what its process is.
LABELS = ("node", "device", "crop", "protocol", "variant")
ASKED = (*identity.PLACE, *identity.ASKED)
PROCESS = ("run_id", "node", "device", "engine", "model", *identity.VERSIONS, "block")
Name = tuple[Any, ...]
Line = tuple[list[Row], list[Row], list[Row], list[Row]]  # of A, of B, what failed in A, what failed in B
# Facts that every row has in a column of its own, and those of the moment, which differ always.
NOT_A_DIFFERENCE = {fact.name for group in ("at this moment", "workload") for fact in facts.GROUPS[group]}


@dataclass(frozen=True)
class Compared:
    """One case on both sides: its name, the medians in s, the verdict and why, and whether the masks agree.

    verdict: FASTER, SLOWER, SAME or UNCLEAR with `ratio`, else MISSING, FAILED or NOT COMPARABLE with `why`.
    same_masks is None where a side has none.
    """

    case: tuple[str, ...]
    a_s: float | None
    b_s: float | None
    verdict: str
    why: str
    ratio: Ratio | None
    same_masks: bool | None


@dataclass(frozen=True)
class Comparison:
    """Everything that `cellbench compare` says.

    by: the columns that the cases are told apart by. varied: what is being compared besides the selections, e.g.
    {"node": ("desk", "mac")}. unit: what was counted as
    independent evidence, block or run. is_apart: each side is one run, and they have no hour of a node in common, so
    that what the hours differ by looks like a change. differences: (node, fact, A's values, B's values) that differ.
    """

    a: Side
    b: Side
    by: tuple[str, ...]
    varied: dict[str, tuple[str, str]]
    unit: str
    is_apart: bool
    margin: float
    cases: list[Compared]
    overall: Ratio | None
    differences: list[tuple[str, str, str, str]]


def compare(a: Side, b: Side, margin: float = MARGIN) -> Comparison:
    """Match the cases of two sides and judge each. CellbenchError where they share results."""
    if common := _identities(a.blocks) & _identities(b.blocks):
        raise CellbenchError(
            f"both sides contain the same measurements of run {sorted(common)[0][0]}", f"{a.asked} and {b.asked}",
            "choose two sets that have nothing in common",
        )  # fmt: skip
    varied, free = _varied(a.blocks or a.failed, b.blocks or b.failed)
    lines, by = _lines(a, b, free)
    # Blocks of one run share its hour. Where there are several runs, their spread is known, and only it counts.
    unit = "run" if max(len(a.runs), len(b.runs)) > 1 else "block"
    names = sorted(lines, key=lambda name: _place(name, by))
    sides = [{name: line[i] for name, line in lines.items() if line[i]} for i in range(2)]
    reasons = {name: _why_not(*lines[name], free) for name in names}
    judged = [name for name in names if reasons[name] is None]
    pairs = [tuple(_units(side[name], unit) for side in sides) for name in judged]
    hours = [{(row["run_id"], row["node"]) for row in side.blocks} for side in (a, b)]
    is_apart = unit == "block" and not hours[0] & hours[1]
    spreads = [_spread(a, b, sides, [name]) if is_apart else None for name in judged]
    ratios = dict(zip(judged, ratio.compare(pairs, margin, spreads), strict=True))
    cases = [
        _compared(name, *(side.get(name, []) for side in sides), reasons[name], ratios.get(name), unit)
        for name in names
    ]
    groups = _groups(sides, judged)
    overall = ratio.overall(
        [tuple(_matrix(side, names, unit) for side in sides) for names in groups], margin,
        [_spread(a, b, sides, names) if is_apart else None for names in groups], is_apart,
    )  # fmt: skip
    return Comparison(a, b, by, varied, unit, is_apart, margin, cases, overall, differences(a.facts, b.facts))


def differences(before: Iterable[Row], after: Iterable[Row]) -> list[tuple[str, str, str, str]]:
    """Facts about nodes that differ: (node, fact, values before, values after); node is empty where nodes differ.

    Nodes of the same name are put side by side; where the two sides have none in common, all are taken together.
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
    """What is being compared besides the selections, by column; and the columns that take no part in matching."""
    varied: dict[str, tuple[str, str]] = {}
    free: set[str] = set()
    for part, follows in MAY_VARY.items():
        values = [{identity.values(row, part) for row in side} for side in (a, b)]
        if all(len(side) == 1 for side in values) and values[0] != values[1]:
            free |= {*part, *follows}
            firsts = (a[0], b[0])
            for column in identity.distinguishing(firsts, (), part):
                varied.setdefault(column, tuple(identity.short(identity.value(row, column)) for row in firsts))
    return varied, free


def _lines(a: Side, b: Side, free: set[str]) -> tuple[dict[Name, Line], tuple[str, ...]]:
    """The rows of each case by its name, and the columns that the names are made of.

    What is on one side only stands beside what is called the same on the other side: it is other work.
    """
    same, called, asked = (identity.without(columns, free) for columns in (identity.SERIES, LABELS, ASKED))
    sides = [_grouped(side.blocks, same) for side in (a, b)]
    lines = [tuple(side.get(key, []) for side in sides) for key in {**sides[0], **sides[1]}]
    lonely: dict[Name, list[tuple[list[Row], ...]]] = {}
    for line in lines:
        if not all(line):
            lonely.setdefault(identity.values((line[0] or line[1])[0], called), []).append(line)
    lines = [line for line in lines if all(line)]
    for alike in lonely.values():
        joined = tuple([row for line in alike for row in line[side]] for side in range(2))
        lines += [joined] if all(joined) else alike
    failures = [_grouped(side.failed, asked) for side in (a, b)]
    keys = [{identity.values(row, asked) for row in (*line[0], *line[1])} for line in lines]
    failed = [tuple([row for key in each for row in side.get(key, [])] for side in failures) for each in keys]
    rest = {**failures[0], **failures[1]}.keys() - set().union(*keys)
    found: list[Line] = [(*line, *bad) for line, bad in zip(lines, failed, strict=True)]
    found += [([], [], *(side.get(key, []) for side in failures)) for key in rest]
    firsts = [next(row for rows in line for row in rows) for line in found]
    by = identity.distinguishing(firsts, called, same)
    return {_name(row, by): line for row, line in zip(firsts, found, strict=True)}, by


def _grouped(rows: list[Row], columns: tuple[str, ...]) -> dict[Name, list[Row]]:
    found: dict[Name, list[Row]] = {}
    for row in rows:
        found.setdefault(identity.values(row, columns), []).append(row)
    return found


def _name(row: Row, by: tuple[str, ...]) -> Name:
    return tuple(identity.short(identity.value(row, column)) for column in by)


# ---------------------------------------------------------------- one case


def _compared(
    name: tuple[str, ...], a: list[Row], b: list[Row], reason: Row | None, found: Ratio | None, unit: str
) -> Compared:
    medians = [float(np.median([row["median_s"] for row in side])) if side else None for side in (a, b)]
    masks = [{hash_ for row in side for hash_ in row["masks"] or []} for side in (a, b)]
    same = masks[0] == masks[1] if all(masks) else None
    if found is None:
        return Compared(name, *medians, reason["verdict"], reason["why"], None, same)
    return Compared(name, *medians, found.verdict, _advice(found, unit), found, same)


def _why_not(a: list[Row], b: list[Row], failed_a: list[Row], failed_b: list[Row], free: set[str]) -> Row | None:
    """Why a case has no ratio, or None if it has one."""
    for which, ok, failed in (("A", a, failed_a), ("B", b, failed_b)):
        if not ok and failed:
            return {"verdict": FAILED, "why": f"failed in {which}: {failed[0]['status']}"}
    for which, ok in (("A", a), ("B", b)):
        if not ok:
            return {"verdict": MISSING, "why": f"not measured in {which}"}
    reasons = []
    for column in (*identity.SERIES, *identity.VERSIONS):
        values = [sorted({identity.short(identity.value(row, column)) for row in side}) for side in (a, b)]
        if values[0] != values[1] and column not in (*free, *identity.VERSIONS):
            reasons.append(f"{identity.word(column)} {', '.join(values[0])} and {', '.join(values[1])}")
            continue
        mixed = [side for side, found in zip("AB", values, strict=True) if len(found) > 1]
        reasons += [f"{side} mixes {identity.word(column)} {' and '.join(values['AB'.index(side)])}" for side in mixed]
    return {"verdict": NOT_COMPARABLE, "why": "; ".join(reasons)} if reasons else None


def _advice(found: Ratio, unit: str) -> str:
    """What a reader of the verdict should know or do."""
    fewest = min(found.n_a, found.n_b)
    if found.verdict != ratio.UNCLEAR:
        return ""
    needed = "run" if found.spread else unit
    if found.more is None:
        return f"more than {ratio.BLOCKS_MAX} {needed}s a side would be needed"
    start = f"no verdict from {fewest} {unit}{'s' * (fewest != 1)}: " if fewest < ratio.MIN_BLOCKS else ""
    least = "at least" if fewest < 2 else "about"
    return f"{start}{least} {found.more} more {needed}{'s' * (found.more != 1)} a side"


def _units(rows: list[Row], unit: str) -> np.ndarray:
    """What counts as one piece of evidence: a block's median, or the median of a run's blocks."""
    if unit == "block":
        return np.array([row["median_s"] for row in rows])
    runs = sorted({row["run_id"] for row in rows})
    return np.array([np.median([row["median_s"] for row in rows if row["run_id"] == run]) for run in runs])


def _groups(sides: Sequence[dict[Any, list[Row]]], judged: list[Any]) -> list[list[Any]]:
    """The cases that have a ratio, as the geometric mean takes them: the processes of each device on their own."""
    groups: dict[Any, list[Any]] = {}
    for name in judged:
        places = tuple(tuple(sorted({(row["node"], row["device"]) for row in side[name]})) for side in sides)
        groups.setdefault(places, []).append(name)
    return list(groups.values())


def _spread(a: Side, b: Side, sides: Sequence[dict[Any, list[Row]]], names: list[Any]) -> Spread | None:
    """How far the mean over these cases lies apart from run to run, as their baselines tell; None where none does.

    The runs that are compared take no part. Both sides' series count, as one where they are the same.
    """
    bands = []
    for keys in {tuple(side[name][0]["series_key"] for name in names) for side in sides}:
        known = [a.history.get(key, {}) | b.history.get(key, {}) for key in keys]
        runs = sorted(set.intersection(*map(set, known)) - {*a.runs, *b.runs})
        means = [math.exp(np.mean([math.log(values[run]) for values in known])) for run in runs]
        begun = {run for side in (a, b) for key in keys for run in side.accepted.get(key, ())}
        bands.append(watch.newest_band(means, {bisect_left(runs, run) for run in begun} - {len(runs)}))
    bands = [band for band in bands if band]
    freedom = sum(band.n - 1 for band in bands)
    return Spread(math.sqrt(sum((band.n - 1) * band.sd**2 for band in bands) / freedom), freedom) if bands else None


def _matrix(side: dict[Any, list[Row]], names: list[Any], unit: str) -> np.ndarray:
    """Medians in s, units × cases; NaN where a unit lacks a case."""

    def key(row: Row) -> tuple[Any, ...]:
        return (row["run_id"],) if unit == "run" else tuple(row[column] for column in PROCESS)

    keys = sorted({key(row) for name in names for row in side[name]})
    found = np.full((len(keys), len(names)), np.nan)
    for column, name in enumerate(names):
        for line, wanted in enumerate(keys):
            values = [row["median_s"] for row in side[name] if key(row) == wanted]
            if values:
                found[line, column] = np.median(values)
    return found


def _identities(rows: list[Row]) -> set[tuple[Any, ...]]:
    return {(row["run_id"], row["case_id"], row["block"]) for row in rows}


def _place(name: tuple[str, ...], by: tuple[str, ...]) -> tuple[Any, ...]:
    """Where a case stands in the table: crops by size, full last, everything else by name."""
    return tuple(
        (int(word) if word.isdigit() else 10**9, word) if column == "crop" else (0, word)
        for column, word in zip(by, name, strict=True)
    )
