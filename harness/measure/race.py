"""Time variants against stock and each other in one fresh process: masks first, then interleaved calls.

Interleaving makes a ratio true on an unstable machine: a slow moment affects neighbouring calls alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from harness import images
from harness.engines import registry
from harness.engines.base import Effective, Engine, LoadedModel, Segmentation
from harness.measure import agreement, block, rows, timing
from harness.measure.block import Bench, Finished
from harness.measure.wire import RaceOrder
from harness.plan.cases import Case
from harness.schema import Sample

LOSING = 1.10  # a variant this much slower than the fastest, after ROUNDS_MIN rounds, is dropped
ROUNDS_MIN = 2


@dataclass
class Racer:
    """A variant on a model of its own, with its state in the race."""

    row: Sample
    case: Case
    model: LoadedModel
    effective: Effective
    times_s: list[float] = field(default_factory=list)
    is_out: bool = False


def samples(order: RaceOrder, engine: Engine | None = None) -> Iterator[Sample | Finished]:
    """Race the variants of a block's tasks, which share one crop; masks are compared with those of stock, the first.

    Rows: role masks at the estimated and at stock's diameter, also on the smaller crop 224 where there is room, or role
    warmup where masks are not compared; then role tune, one row a call. A variant that fails, or runs in another way
    than requested, becomes a row, and the others continue. engine: the block's unless given.
    """
    engine = engine or registry.engine(order.block.engine)
    base = rows.base_columns(order)
    try:
        bench = yield from block.start(engine, base, order)
    except Exception as error:
        for task in order.block.tasks:
            yield block.failed(engine, rows.row_of(base, task), 0, error)
    else:
        with ExitStack() as applied:
            yield from _race(bench, base, order, applied)
    for _ in order.block.tasks:
        yield Finished()


def _race(bench: Bench, base: Sample, order: RaceOrder, applied: ExitStack) -> Iterator[Sample]:
    on_cpu = bench.model if bench.device == "cpu" or not order.compares_masks else bench.load("cpu")
    reference: dict[tuple[str, bool], Segmentation] = {}
    racers: list[Racer] = []
    for task in order.block.tasks:
        row = rows.row_of(base, task)
        try:
            # Each has a model of its own, so that no variant is applied or removed between two calls.
            variant = bench.engine.variant(task.case.variant)
            model = bench.model if variant.is_stock else bench.load()
            effective = applied.enter_context(model.applied(variant))
            block.check_as_asked(effective)
            racer = Racer({**row, **effective.columns}, task.case, model, effective)
            if order.compares_masks:
                yield from _gate(bench, on_cpu, reference, racer)
            else:
                warm = timing.once("warmup", bench.call(racer.case, racer.model), bench.sync)
                block.check_as_asked(racer.effective)
                yield rows.good(racer.row, warm, "call")
            racers.append(racer)
        except Exception as error:
            yield block.failed(bench.engine, row, 0, error)
    for index in range(order.block.effort.repeats):
        running = [racer for racer in racers if not racer.is_out]
        for racer in running[index % len(running) :] + running[: index % len(running)] if running else []:
            try:
                done = timing.once("tune", bench.call(racer.case, racer.model), bench.sync, bench.watch.begin)
                block.check_as_asked(racer.effective)
                racer.times_s.append(done.elapsed_s)
                yield rows.good(racer.row, replace(done, index=index), "call")
            except Exception as error:
                racer.is_out = True
                yield block.failed(bench.engine, racer.row, index, error)
        _drop_losers(racers)


def _gate(
    bench: Bench, on_cpu: LoadedModel, reference: dict[tuple[str, bool], Segmentation], racer: Racer
) -> Iterator[Sample]:
    """Compare the variant's masks with those of stock on the CPU, at the estimated and at the reference's diameter."""
    for case in gate_crops(racer.case):
        pixels = bench.pixels(case)
        for index, is_fixed in enumerate((False, True)):
            given_px = reference[case.crop, False].diameter_px if is_fixed else None
            if (case.crop, is_fixed) not in reference:
                reference[case.crop, is_fixed] = on_cpu.segment(pixels, given_px)
            expected = reference[case.crop, is_fixed]
            done = replace(
                timing.once("masks", partial(racer.model.segment, pixels, given_px), bench.sync), index=index
            )
            if case is not racer.case and racer.effective.notes():
                continue  # too small for the variant; the case's own crop may be large enough
            block.check_as_asked(racer.effective)
            size = {"crop": case.crop, "height_px": case.height_px, "width_px": case.width_px}
            diameter = {} if given_px is None else {"diameter_asked_px": given_px}
            yield rows.good(racer.row | size, done, "call") | agreement.compare(expected, done.outcome) | diameter


def gate_crops(case: Case) -> list[Case]:
    """The case's crop, and a smaller one inside it where that can be segmented: other tiles, other borders."""
    side_px = min(case.height_px, case.width_px) * 2 // 3
    smaller = replace(case, crop=str(side_px), height_px=side_px, width_px=side_px)
    return [smaller, case] if side_px >= images.MIN_SIDE_PX else [case]


def _drop_losers(racers: list[Racer]) -> None:
    """Drop slow variants. Stock stays to the end, since every ratio is to it."""
    known = [racer for racer in racers if len(racer.times_s) >= ROUNDS_MIN]
    if not known:
        return
    best_s = min(statistics.median(racer.times_s) for racer in known)
    for racer in known:
        slow = statistics.median(racer.times_s) > LOSING * best_s
        racer.is_out |= bool(slow and racer.case.variant != "stock")
