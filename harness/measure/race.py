"""Variants against stock and each other in one fresh process: masks first, then calls in turn.

Taking turns is what makes a ratio true on a machine that wanders: whatever slows one call slows its neighbours too.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from harness.engines.cellpose3 import variants
from harness.measure import agreement, block, timing, workload
from harness.measure.block import Finished, Order
from harness.plan import Case
from harness.schema import Sample

LOSING = 1.10  # a variant this much slower than the fastest, after ROUNDS_MIN rounds, is raced no further
ROUNDS_MIN = 2


@dataclass
class Racer:
    """A variant on a model of its own, and how it has done."""

    row: Sample
    case: Case
    model: Any
    applied: variants.Applied
    times_s: list[float]
    is_out: bool = False


def samples(order: Order) -> Iterator[Sample | Finished]:
    """Race the variants of a block's tasks, which share one crop; the first is stock, whose masks judge the others.

    Rows: role masks at the estimated and at stock's own diameter, on the smaller crop 224 too where there is room;
    then role tune, one row a call. A variant that fails becomes a row, and the others go on.
    """
    base = block.base_columns(order)
    try:
        bench = yield from block._start(base, order)
    except Exception as error:
        for task in order.block.tasks:
            yield block._failed(block.row_of(base, task), 0, error)
            yield Finished()
        return
    on_cpu = bench.model if bench.device == "cpu" else workload.load("cpu")
    reference: dict[tuple[str, bool], workload.Segmentation] = {}
    racers: list[Racer] = []
    for task in order.block.tasks:
        row = block.row_of(base, task)
        try:
            # Each has a model of its own, so that nothing is put on or taken off between two calls.
            model = bench.model if task.case.variant == "stock" else workload.load(bench.device)
            racer = Racer(row, task.case, model, variants.apply(model, task.case.variant), [])
            yield from _gate(bench, on_cpu, reference, racer)
            racers.append(racer)
        except Exception as error:
            yield block._failed(row, 0, error)
    for index in range(order.block.effort.repeats):
        running = [racer for racer in racers if not racer.is_out]
        for racer in running[index % len(running) :] + running[: index % len(running)] if running else []:
            try:
                done = timing.once("tune", block._call(racer.model, bench.device, bench.image, racer.case), bench.sync)
                racer.times_s.append(done.elapsed_s)
                yield block._row(racer.row, replace(done, index=index), "call")
            except Exception as error:
                racer.is_out = True
                yield block._failed(racer.row, index, error)
        _drop_losers(racers)
    for racer in racers:
        for note in racer.applied.notes:
            yield block.fell_back(racer.row, 0, note)
        racer.applied.remove()
    for _ in order.block.tasks:
        yield Finished()


def _gate(bench: block.Bench, on_cpu: Any, reference: dict[Any, Any], racer: Racer) -> Iterator[Sample]:
    """The variant's masks beside those of stock on the CPU, at the estimated and at the reference's diameter."""
    for crop in gate_crops(racer.case):
        pixels = block._pixels(bench.image, crop)
        for index, is_fixed in enumerate((False, True)):
            if (crop.crop, is_fixed) not in reference:
                given = reference[crop.crop, False].diameter_px if is_fixed else workload.DIAMETER_PX
                reference[crop.crop, is_fixed] = workload.segment(on_cpu, pixels, given)
            expected = reference[crop.crop, is_fixed]
            diameter_px = expected.diameter_px if is_fixed else workload.DIAMETER_PX
            work = partial(workload.segment, racer.model, pixels, diameter_px)
            done = replace(timing.once("masks", work, bench.sync), index=index)
            size = {"crop": crop.crop, "height_px": crop.height_px, "width_px": crop.width_px}
            row = block._row(racer.row | size, done, "call")
            yield row | agreement.compare(expected, done.outcome) | {"diameter_asked_px": diameter_px}


def gate_crops(case: Case) -> list[Case]:
    """The case's crop, and a smaller one inside it: other tiles, other borders."""
    side_px = min(case.height_px, case.width_px) * 2 // 3
    return [replace(case, crop=str(side_px), height_px=side_px, width_px=side_px), case]


def _drop_losers(racers: list[Racer]) -> None:
    """Stock stays to the end, since every ratio is to it."""
    known = [racer for racer in racers if len(racer.times_s) >= ROUNDS_MIN]
    if not known:
        return
    best_s = min(statistics.median(racer.times_s) for racer in known)
    for racer in known:
        slow = statistics.median(racer.times_s) > LOSING * best_s
        racer.is_out |= bool(slow and racer.case.variant != "stock")
