"""Measure two sides in interleaved fresh processes, until a verdict is reached or the time is spent.

Each side is a run of its own, so every row is read, shown and compared as any other. A pair is one process of either
side; the first of the two is drawn at random.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from harness import query, schema
from harness.engines import registry
from harness.errors import CasesFailedError, CellbenchError
from harness.fleet.driver import Fleet
from harness.plan.cases import Block, Task
from harness.run import bench, resume
from harness.run.bench import Prepared
from harness.run.resume import Manifest, Pairing
from harness.stats import sequential
from harness.stats.difference import INCONCLUSIVE
from harness.stats.sequential import Decision
from harness.store import Store, new_run_id

WORK = ("model", "crop", "height_px", "width_px", "protocol")  # of a case; equal on both sides


@dataclass(frozen=True)
class Side:
    """One side that is ready to be measured. places: the folder of image and model files on its node."""

    run_id: str
    prepared: Prepared
    fleet: Fleet
    places: Mapping[str, str]

    @property
    def block(self) -> Block:
        """The one block that is repeated."""
        return self.prepared.blocks[0]


@dataclass(frozen=True)
class Pair:
    """Medians of one process of either side in s; verdict of the pairs so far. same_masks: None without cells."""

    index: int
    before_s: float
    after_s: float
    same_masks: bool | None
    decision: Decision


def begin(
    before: Prepared, after: Prepared, fleets: tuple[Fleet, Fleet], out: Path, pairing: Pairing
) -> tuple[Side, Side]:
    """Begin two new runs of the same work; CellbenchError where the work differs, since then no ratio is valid."""
    _check_same_work(before, after)
    store, now = Store.make(out), time.time()
    ids = (new_run_id(now), new_run_id(now + 1e-3))
    sides = []
    for number, (prepared, fleet) in enumerate(zip((before, after), fleets, strict=True)):
        manifest = bench.manifest_of(prepared, fleet, ids[number], "ab")
        resume.write(store, replace(manifest, pairing=replace(pairing, runs=ids)))
        sides.append(Side(ids[number], prepared, fleet, fleet.deliver(prepared.material.parcels())))
    return sides[0], sides[1]


def measure(sides: tuple[Side, Side], out: Path, pairing: Pairing) -> Iterator[Pair]:
    """Measure pairs, every row stored, until there is a verdict or the budget is spent; at least one pair.

    Pairs in the store count, and are not measured again. CasesFailedError where a side fails.
    """
    store = Store.make(out)
    pairs = stored(store, sides)
    if pairs:
        yield _judged(pairs, pairing)
    end_s, longest_s = time.monotonic() + pairing.budget_s, 0.0
    with store.journal(sides[0].run_id) as first, store.journal(sides[1].run_id) as second:
        while not pairs or (
            sequential.look(_medians(pairs), pairing.margin).verdict == INCONCLUSIVE
            and time.monotonic() + longest_s < end_s
        ):
            index, begun_s = max((each[0] for each in pairs), default=-1) + 1, time.monotonic()
            found: dict[int, list[dict[str, Any]]] = {}
            is_swapped = random.Random(f"{pairing.seed}/{index}").random() < 0.5
            for number in (1, 0) if is_swapped else (0, 1):
                found[number] = _process(sides[number], index, (first, second)[number])
            pairs.append((index, found[0], found[1]))
            longest_s = max(longest_s, time.monotonic() - begun_s)
            yield _judged(pairs, pairing)


def stored(store: Store, sides: tuple[Side, Side]) -> list[tuple[int, list[dict[str, Any]], list[dict[str, Any]]]]:
    """The pairs of an interrupted A/B measurement: processes that both sides have finished."""
    sql = """SELECT block, elapsed_s, mask_sha256, n_cells, stop_reason FROM samples
             WHERE run_id = $run AND role = 'timed' AND status = 'ok' ORDER BY block, repetition"""
    of_side = []
    for side in sides:
        rows = query.Session(store).table(sql, run=side.run_id).to_pylist()
        blocks = schema.identity.grouped(rows, itemgetter("block"))
        of_side.append({block: each for block, each in blocks.items() if each[-1]["stop_reason"]})
    return [(index, of_side[0][index], of_side[1][index]) for index in sorted(of_side[0].keys() & of_side[1].keys())]


def _process(side: Side, index: int, journal: Any) -> list[dict[str, Any]]:
    """Run one fresh process of a side; its timed rows."""
    task = Task("timed", side.block.cases[0], 0)
    blocks = (replace(side.block, index=index, tasks=(task,)),)
    orders = bench.orders(replace(side.prepared, blocks=blocks), side.run_id, side.places)
    timed = []
    with closing(side.fleet.batches(orders)) as batches:
        for sample in journal.record(batches):
            if sample["status"] not in schema.FINE:
                what = f"{task.case.label}: {sample['status']}: {sample['error_message']}"
                raise CasesFailedError(what, f"run {side.run_id}", "correct that side, and begin again")
            if sample["role"] == "timed":
                timed.append(sample)
    return timed


def _judged(pairs: Sequence[tuple[int, list[dict[str, Any]], list[dict[str, Any]]]], pairing: Pairing) -> Pair:
    index = pairs[-1][0]
    masks = {row["mask_sha256"] for _, *both in pairs for rows in both for row in rows}
    has_cells = any(row["n_cells"] for _, *both in pairs for rows in both for row in rows)
    middle = _medians(pairs[-1:])[0]
    decision = sequential.look(_medians(pairs), pairing.margin)
    return Pair(index, *middle, len(masks) == 1 if has_cells else None, decision)


def _medians(pairs: Sequence[tuple[int, list[dict[str, Any]], list[dict[str, Any]]]]) -> list[tuple[float, float]]:
    def median_s(rows: list[dict[str, Any]]) -> float:
        return statistics.median(row["elapsed_s"] for row in rows)

    return [(median_s(before), median_s(after)) for _, before, after in pairs]


def _check_same_work(before: Prepared, after: Prepared) -> None:
    one, other = before.blocks[0], after.blocks[0]
    if any(len(side.blocks) != 1 or len(side.blocks[0].cases) != 1 for side in (before, after)):
        raise CellbenchError("an A/B measurement takes one device and one crop", "--device, --crop", "name one of each")
    differ = [name for name in WORK if getattr(one.cases[0], name) != getattr(other.cases[0], name)]
    differ += ["image"] if before.material.image.sha256 != after.material.image.sha256 else []
    files = [{each.model: each.columns for each in side.material.models} for side in (before, after)]
    differ += ["weights"] if files[0] != files[1] else []
    engine = registry.engine(one.engine)
    differ += [each.cases[0].variant for each in (one, other) if engine.variant(each.cases[0].variant).changes_result]
    if differ:
        raise CellbenchError(
            f"the sides do different work: {', '.join(differ)}", "A B",
            "compare ways to do the same work; for other models or results see cellbench run",
        )  # fmt: skip


def resumed(store: Store, manifest: Manifest) -> tuple[Manifest, Manifest]:
    """The manifests of both sides of an A/B measurement, by that of either."""
    if manifest.pairing is None:
        raise CellbenchError(f"{manifest.run_id} is not a side of an A/B measurement", None, "see: cellbench list")
    first, second = (resume.read(store, run_id) for run_id in manifest.pairing.runs)
    return first, second
