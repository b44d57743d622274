"""What a fresh process measures: start-up, then each task of a block; samples come out one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from harness import images, schema
from harness.engines.cellpose3 import variants
from harness.errors import CellbenchError
from harness.images import synthetic
from harness.machine import facts, interference, nvidia, probe
from harness.measure import agreement, energy, memory, stages, timing, workload
from harness.measure.timing import Repetition
from harness.measure.workload import Segmentation
from harness.plan import CONTROL, CONTROL_REPEATS, N_ROWS, STOCK, Block, Case, Effort, Task
from harness.schema import Sample

PROTOCOL_VERSION = 1  # what is inside the timed region


@dataclass(frozen=True)
class Order:
    """Everything that a worker needs to know to perform one block."""

    block: Block
    pixels_file: str  # the whole image as .npy
    pixels_sha256: str
    weights_folder: str
    constants: dict[str, Any]  # columns that are the same in every sample of the run


@dataclass(frozen=True)
class Finished:
    """Said after a task's last sample."""


@dataclass(frozen=True)
class Bench:
    """What start-up made and the tasks work with."""

    device: str
    effort: Effort
    model: Any
    image: np.ndarray
    sync: Callable[[], None]
    gpu: nvidia.Gpu | None
    watch: interference.Watch


def samples(order: Order) -> Iterator[Sample | Finished]:
    """Measure one block in this very process; whatever a task raises is its last sample, and the others go on."""
    base = base_columns(order)
    try:
        bench = yield from _start(base, order)
    except Exception as error:  # nothing can be measured, and each task says so
        for task in order.block.tasks:
            yield _failed(row_of(base, task), 0, error)
            yield Finished()
        return
    for task in order.block.tasks:
        row, repetition = row_of(base, task), len(task.earlier_s)
        try:
            with _variant(bench.model, task.case.variant) as applied:
                for sample in TASKS[task.role](bench, row, task):
                    repetition = sample["repetition"] + 1 if sample["role"] == task.role else 0
                    yield sample
            for note in applied.notes if applied else ():
                yield fell_back(row, repetition, note)
        except Exception as error:
            yield _failed(row, repetition, error)
        yield Finished()


# ---------------------------------------------------------------- start-up


def _start(base: Sample, order: Order) -> Iterator[Sample]:
    """The cold phases, each a sample: import, device start, model load, first call; returns the bench."""
    device = order.block.device.id
    base["idle_wait_s"] = interference.wait_for_idle(order.block.idle_wait_s)
    yield _row(base, timing.once("cold", workload.import_cellpose, lambda: None), "import")
    base |= workload.set_threads(order.block.threads)
    base["sync"], sync = workload.synchroniser(device)

    # The first contact makes an accelerator's context, which must not hide in front of the next clock.
    yield _row(base, timing.once("cold", sync, lambda: None), "device_start")
    gpu = open_gpu(device)
    if gpu:  # it can be looked at only now; a hot one gets what is left of the wait
        left_s = order.block.idle_wait_s - base["idle_wait_s"]
        base["idle_wait_s"] += interference.wait_for_idle(left_s, gpu)

    loaded = timing.once("cold", lambda: workload.load(device), sync)
    model = loaded.outcome
    base["diam_labels_px"] = workload.diam_labels_px(model)
    yield _row(base, loaded, "model_load") | {"environment": json.dumps(environment(device, base))}

    image = np.load(order.pixels_file, allow_pickle=False)
    if images.hash_pixels(image) != order.pixels_sha256:
        raise CellbenchError("the image changed after the run was planned", order.pixels_file, "run again")
    first = min(order.block.tasks, key=lambda task: task.case.height_px * task.case.width_px)
    with workload.OutputWitness(model) as witness:
        called = timing.once("cold", _call(model, device, image, first.case), sync)
    base["device_used"] = workload.prove_device(model, device, witness.seen)
    yield _row({**row_of(base, first), "position": None}, called, "call")
    return Bench(device, order.block.effort, model, image, sync, gpu, interference.Watch(gpu))


def environment(device: str, known: Sample) -> dict[str, Any]:
    """The facts about this node (harness.machine.facts) for one device, in this process as it is now.

    known: columns of a sample, for what the workload and not the machine decides.
    """
    gpu = open_gpu(device)
    told = {**(gpu.facts() | gpu.live() if gpu else {}), **known}
    others = {fact.name: told[fact.name] for fact in facts.FACTS if fact.name in told}
    # The driver knows the GPU better than the machine, which on Linux has no name for it.
    return probe.environment() | others | workload.environment(device)


def open_gpu(device: str) -> nvidia.Gpu | None:
    """The driver's view of a CUDA device."""
    uuid = workload.gpu_uuid(device)
    return nvidia.open_gpu(uuid) if uuid else None


# ---------------------------------------------------------------- tasks


def _timed(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """Warm-ups until they settle, then repetitions until they are enough."""
    effort = bench.effort
    enough = timing.exactly(effort.repeats)
    if effort.precision is not None:
        most = max(effort.repeats, effort.repeats_max)
        enough = timing.Precise(effort.precision, effort.repeats, most, effort.seconds_max)
    yield from _repeat(bench, row, task.case, "warmup", timing.settled(effort.warmups, effort.warmups_max))
    yield from _repeat(bench, row, task.case, "timed", enough, task.earlier_s)


def _control(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """The small case that shows whether the machine itself got slower or faster in the meantime."""
    yield from _repeat(bench, row, task.case, "warmup", timing.exactly(1))
    yield from _repeat(bench, row, task.case, "control", timing.exactly(CONTROL_REPEATS), task.earlier_s)


def _repeat(
    bench: Bench, row: Sample, case: Case, role: str, enough: timing.Enough, earlier_s: Sequence[float] = ()
) -> Iterator[Sample]:
    work = _call(bench.model, bench.device, bench.image, case)
    for done in timing.repetitions(role, enough, work, bench.sync, bench.watch.begin, earlier_s=earlier_s):
        workload.prove_device(bench.model, bench.device)
        yield _row(row, done, "call")


def _stages(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """Calls taken apart, one row a part; a pass of its own, since waiting at the borders costs time.

    The whole call's row comes last, so that it says that the repetition is complete.
    """
    work = _call(bench.model, bench.device, bench.image, task.case)
    work()  # what hooks cost the first time is not a stage
    for index in range(len(task.earlier_s), N_ROWS["stages"]):
        at = time.time()
        found, total_s, parts = stages.measure(work, bench.sync)
        for part in parts:
            yield _row(row | asdict(part), Repetition("stages", index, at, part.elapsed_s, None), "stage")
        yield _row(row, Repetition("stages", index, at, total_s, found), "call")


def _ceiling(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """The best this device does, measured here and now: the yardstick for the network stage."""
    for index, best in list(enumerate(stages.ceilings(bench.device, bench.sync)))[len(task.earlier_s) :]:
        done = Repetition("ceiling", index, time.time(), best.elapsed_s, None)
        yield _row(row | {"work_gflop": best.work_gflop, "work_gb": best.work_gb}, done, best.phase)


def _memory(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    work = _call(bench.model, bench.device, bench.image, task.case)
    done, peaks = memory.peak_memory(lambda: timing.once("memory", work, bench.sync), bench.device)
    yield _row(row | peaks, done, "call")


def _energy(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    source = energy.find(bench.gpu, bench.device)
    done = Repetition("energy", 0, time.time(), 0.0, None)
    if source is None:
        why = "no energy counter of this device can be read here"
        yield _row(row, done, "call") | {"status": "skipped", "elapsed_s": None, "error_message": why}
        return
    work = _call(bench.model, bench.device, bench.image, task.case)
    yield _row(row, done, "call") | energy.energy(work, source, bench.sync)


def _masks(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """Agreement with stock cellpose on this node's CPU, at the estimated and at the reference's diameter."""
    pixels = _pixels(bench.image, task.case)
    is_reference = bench.device == "cpu" and task.case.variant == STOCK
    on_cpu = bench.model if is_reference else workload.load("cpu")
    reference = workload.segment(on_cpu, pixels)
    diameters_px = (workload.DIAMETER_PX, reference.diameter_px)
    for index, diameter_px in list(enumerate(diameters_px))[len(task.earlier_s) :]:
        work = partial(workload.segment, bench.model, pixels, diameter_px)
        done = replace(timing.once("masks", work, bench.sync), index=index)
        compared = agreement.compare(reference, done.outcome)
        # The case keeps its name: it is the same case that is looked at with another diameter.
        yield _row(row, done, "call") | compared | {"diameter_asked_px": diameter_px}


TASKS: dict[str, Callable[[Bench, Sample, Task], Iterator[Sample]]] = {
    "timed": _timed, "control": _control, "stages": _stages, "ceiling": _ceiling, "memory": _memory,
    "energy": _energy, "masks": _masks,
}  # fmt: skip


def _variant(model: Any, variant: str) -> AbstractContextManager[variants.Applied | None]:
    """The model executed in another way for as long as the context lasts; stock is not touched at all."""
    return nullcontext() if variant == STOCK else variants.apply(model, variant)


def _call(model: Any, device: str, image: np.ndarray, case: Case) -> Callable[[], Segmentation]:
    """The work inside the clock: eval(), or with the article's protocol model construction and eval()."""
    pixels = _pixels(image, case)
    if case.protocol == "article" and case.variant == STOCK:
        return lambda: workload.segment(workload.load(device), pixels)
    if case.protocol == "article":
        return lambda: workload.segment(variants.accelerate(workload.load(device), case.variant), pixels)
    return lambda: workload.segment(model, pixels)


def _pixels(image: np.ndarray, case: Case) -> np.ndarray:
    if case == CONTROL:
        return synthetic.control()
    return images.crop(image, case.crop if case.crop == "full" else int(case.crop))


# ---------------------------------------------------------------- rows


def base_columns(order: Order, facts: dict[str, Any] | None = None) -> Sample:
    """The columns that every sample of the block shares; facts are this machine's if not given."""
    block = order.block
    return {
        **(facts or probe.facts()),
        **order.constants,
        "block": block.index,
        "backend": block.device.backend,
        "device": block.device.id,
        "device_name": block.device.name,
        "batch_size": workload.BATCH_SIZE,
        "diameter_asked_px": workload.DIAMETER_PX,
        "protocol_version": PROTOCOL_VERSION,
    }


def row_of(base: Sample, task: Task) -> Sample:
    """The columns that every sample of a task shares."""
    row = {**base, **asdict(task.case), "position": task.position, "role": task.role, "attempt": task.attempt}
    if task.case == CONTROL:
        pixels = synthetic.control()
        row |= {"image": "control", "image_sha256": images.hash_pixels(pixels), "image_is_synthetic": True}
    return row


def _row(row: Sample, done: Repetition[Any], phase: str) -> Sample:
    """The sample of one good repetition."""
    found = done.outcome if isinstance(done.outcome, Segmentation) else None
    check = {"n_cells": found.n_cells, "diameter_px": found.diameter_px, "mask_sha256": found.sha256} if found else {}
    return identified(
        {
            **row,
            **check,
            **done.observed,
            "role": done.role,
            "phase": phase,
            "repetition": done.index,
            "started_at": done.started_at_unix_s,
            "elapsed_s": done.elapsed_s,
            "stop_reason": done.stop_reason if done.role != "cold" else None,
            "precision": done.precision,
            "status": "ok",
        }
    )


def _failed(row: Sample, repetition: int, error: BaseException) -> Sample:
    return ended_badly(row, repetition, workload.failure(error), type(error).__name__, str(error))


def fell_back(row: Sample, repetition: int, note: str) -> Sample:
    """The sample that says what of a variant did not go as asked; the times beside it are of what ran instead."""
    return ended_badly(row, repetition, "skipped", "VariantFellBack", note)


def ended_badly(row: Sample, repetition: int, status: str, kind: str, text: str) -> Sample:
    """The sample of a task that did not end well."""
    failed = {"phase": "call", "repetition": repetition, "started_at": time.time(), "status": status}
    return identified({**row, **failed, "error_type": kind, "error_message": text[-2000:]})


def identified(row: Sample) -> Sample:
    """The row with the names of its case and its series."""
    return {**row, "case_id": schema.digest(row, schema.CASE), "series_key": schema.digest(row, schema.SERIES)}
