"""Two sets of results side by side: which cases match, whether they may be compared, and what the ratio says."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import CellbenchError
from harness.judge.selection import CASE, SAME_WORK, Row, Side
from harness.machine import facts
from harness.stats import ratio, watch
from harness.stats.ratio import MARGIN, Ratio, Spread

MISSING, FAILED, NOT_COMPARABLE = "MISSING", "FAILED", "NOT COMPARABLE"

# Where each side has a single value of one of these and they differ, that is what is being compared, as two nodes; it
# takes no part in matching.
MAY_VARY = ("node", "device", "variant")
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

    varied: what is being compared besides the selections, e.g. {"node": ("desk", "mac")}. unit: what was counted as
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
    varied = _varied(a.blocks + a.failed, b.blocks + b.failed)
    by = tuple(column for column in CASE if column not in varied)
    # Blocks of one run share its hour. Where there are several runs, their spread is known, and only it counts.
    unit = "run" if max(len(a.runs), len(b.runs)) > 1 else "block"
    sides = [_by_case(side.blocks, by) for side in (a, b)]
    failures = [_by_case(side.failed, by) for side in (a, b)]
    names = sorted({*sides[0], *sides[1], *failures[0], *failures[1]}, key=lambda name: _place(name, by))
    reasons = {name: _why_not(*(rows.get(name, []) for rows in (*sides, *failures))) for name in names}
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


def _why_not(a: list[Row], b: list[Row], failed_a: list[Row], failed_b: list[Row]) -> Row | None:
    """Why a case has no ratio, or None if it has one."""
    for which, ok, failed in (("A", a, failed_a), ("B", b, failed_b)):
        if not ok and failed:
            return {"verdict": FAILED, "why": f"failed in {which}: {failed[0]['status']}"}
    for which, ok in (("A", a), ("B", b)):
        if not ok:
            return {"verdict": MISSING, "why": f"not measured in {which}"}
    reasons = []
    for column, word in SAME_WORK.items():
        values = [sorted({_short(row[column]) for row in side}) for side in (a, b)]
        if values[0] != values[1]:
            reasons.append(f"{word} {', '.join(values[0])} and {', '.join(values[1])}")
        elif len(values[0]) > 1:
            reasons.append(f"both sides mix {word} {', '.join(values[0])}")
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
        return (row["run_id"],) if unit == "run" else (row["run_id"], row["node"], row["device"], row["block"])

    keys = sorted({key(row) for name in names for row in side[name]})
    found = np.full((len(keys), len(names)), np.nan)
    for column, name in enumerate(names):
        for line, wanted in enumerate(keys):
            values = [row["median_s"] for row in side[name] if key(row) == wanted]
            if values:
                found[line, column] = np.median(values)
    return found


def _identities(rows: list[Row]) -> set[tuple[Any, ...]]:
    return {(row["run_id"], row["block"], *(row[column] for column in CASE)) for row in rows}


def _by_case(rows: list[Row], by: tuple[str, ...]) -> dict[tuple[str, ...], list[Row]]:
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(str(row[column]) for column in by), []).append(row)
    return found


def _varied(a: list[Row], b: list[Row]) -> dict[str, tuple[str, str]]:
    found = {}
    for column in MAY_VARY:
        values = [{str(row[column]) for row in side} for side in (a, b)]
        if all(len(side) == 1 for side in values) and values[0] != values[1]:
            found[column] = (*values[0], *values[1])
    return found


def _place(name: tuple[str, ...], by: tuple[str, ...]) -> tuple[Any, ...]:
    """Where a case stands in the table: crops by size, full last, everything else by name."""
    return tuple(
        (int(word) if word.isdigit() else 10**9, word) if column == "crop" else (0, word)
        for column, word in zip(by, name, strict=True)
    )


def _short(value: Any) -> str:
    """A value as a reason names it: hashes by their beginning."""
    text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text[:8] if re.fullmatch(r"[0-9a-f]{64}", text) else text
