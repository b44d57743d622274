"""The mask pass: agreement with the stock model on this node's CPU, and with the cells of a drawn image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from harness.engines.base import STOCK
from harness.measure import agreement, rows, timing
from harness.measure.block import Bench
from harness.plan.cases import Task
from harness.schema import Sample


def run(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """Compare twice: at the diameter that each estimates, and at the reference's."""
    from harness.images import synthetic  # imports scipy, which the import phase counts only where it is needed

    pixels = bench.pixels(task.case)
    # An accuracy of stand-in weights has no meaning.
    is_known = row.get("image_is_synthetic") and row.get("weights") != "standin"
    truth = synthetic.truth(pixels) if is_known else None
    is_reference = bench.device == "cpu" and task.case.variant == STOCK
    on_cpu = bench.model if is_reference else bench.load("cpu")
    reference = on_cpu.segment(pixels)
    diameters_px = (None, reference.diameter_px)
    for index, diameter_px in list(enumerate(diameters_px))[len(task.earlier_s) :]:
        work = partial(bench.model.segment, pixels, diameter_px)
        done = replace(timing.once("masks", work, bench.sync, bench.watch.begin), index=index)
        compared = agreement.compare(reference, done.outcome)
        if truth is not None and diameter_px is None:
            compared |= agreement.accuracy(truth, done.outcome)
        diameter = {} if diameter_px is None else {"diameter_asked_px": diameter_px}
        # The case keeps its name: it is the same case with another diameter.
        yield rows.good(row, done, "call") | compared | diameter
