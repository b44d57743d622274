"""Measure a block in a fresh process: start-up, then each task; samples are yielded one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from harness import images
from harness.engines import registry
from harness.engines.base import STOCK, Effective, Engine, LoadedModel, Segmentation
from harness.errors import CellbenchError, DeviceFallbackError, VariantFallbackError
from harness.machine import energy_counters, facts, interference, probe
from harness.machine.accelerators import Accelerator, Monitor
from harness.measure import rows, timing
from harness.measure.timing import Repetition
from harness.measure.wire import Order
from harness.plan.cases import CONTROL_REPEATS, Case, Effort, Task
from harness.schema import PASSES, Sample


@dataclass(frozen=True)
class Finished:
    """The end of a task, after its last sample."""


@dataclass(frozen=True)
class Bench:
    """The objects that start-up makes and the tasks use."""

    engine: Engine
    order: Order
    model: LoadedModel
    image: np.ndarray
    sync: Callable[[], None]
    gpu: Monitor | None
    watch: interference.Watch
    idle_w: float | None  # power at rest, where energy is a task

    @property
    def device(self) -> str:
        """The device that is measured."""
        return self.order.block.device.id

    @property
    def accelerator(self) -> Accelerator:
        """The kind of that device."""
        return self.engine.accelerator(self.device)

    @property
    def effort(self) -> Effort:
        """The number of repetitions, as the profile sets it."""
        return self.order.block.effort

    def load(self, device: str | None = None) -> LoadedModel:
        """Load one more model of the block's, on its device unless another is named."""
        return self.engine.load(self.order.block.model, device or self.device, self.order.block.dtype)

    def pixels(self, case: Case) -> np.ndarray:
        """The pixels of the case: (height, width)."""
        if case.is_control:
            from harness.images import synthetic  # imports scipy, which the import phase counts only where it is needed

            return synthetic.control()
        return images.crop(self.image, case.crop if case.crop == "full" else int(case.crop))

    def call(self, case: Case, model: LoadedModel | None = None) -> Callable[[], Segmentation]:
        """The work inside the clock: one call; with the article's protocol the model's construction and one call."""
        pixels, chosen = self.pixels(case), model or self.model
        chosen.prepare(pixels)
        if case.protocol != "article":
            return lambda: chosen.segment(pixels)
        variant = self.engine.variant(case.variant)

        def construct_and_segment() -> Segmentation:
            made = self.load()
            with made.applied(variant) as effective:
                found = made.segment(pixels)
                check_as_asked(effective)
                return found

        return construct_and_segment


Measure = Callable[[Bench, Sample, Task], Iterator[Sample]]


def samples(order: Order, engine: Engine | None = None) -> Iterator[Sample | Finished]:
    """Measure one block in this process; an error of a task becomes its last sample, and the other tasks follow.

    engine: the block's unless given.
    """
    engine = engine or registry.engine(order.block.engine)
    base = rows.base_columns(order)
    try:
        bench = yield from start(engine, base, order)
    except Exception as error:  # nothing can be measured, and each task's row contains the reason
        for task in order.block.tasks:
            yield failed(engine, rows.row_of(base, task), 0, error)
            yield Finished()
        return
    for task in order.block.tasks:
        yield from _task(bench, base, task)
        yield Finished()


def _task(bench: Bench, base: Sample, task: Task) -> Iterator[Sample]:
    row, repetition = rows.row_of(base, task), len(task.earlier_s)
    try:
        with bench.model.applied(bench.engine.variant(task.case.variant)) as effective:
            row |= effective.columns
            check_as_asked(effective)
            for sample in measure_of(task.role)(bench, row, task):
                check_as_asked(effective)
                repetition = sample["repetition"] + 1 if sample["role"] == task.role else 0
                yield sample
    except Exception as error:
        yield failed(bench.engine, row, repetition, error)


# ---------------------------------------------------------------- start-up


def start(engine: Engine, base: Sample, order: Order) -> Iterator[Sample]:
    """Time the cold phases, each a sample: import, device start, model load, first call; returns the bench."""
    block, device = order.block, order.block.device.id
    accelerator = engine.accelerator(device)
    # With its UUID the driver reports about a GPU that this process has not used yet.
    gpu = accelerator.monitor(device, block.device.uuid) if block.device.uuid else None
    base["idle_wait_s"] = interference.wait_for_idle(block.idle_wait_s, gpu)
    has_energy = any(task.role == "energy" for task in block.tasks)
    source = energy_counters.find(accelerator, gpu) if has_energy else None
    idle_w = energy_counters.idle_power_w(source) if source else None
    engine.prepare(block.model, order.folder, order.model_source)
    yield rows.good(base, timing.once("cold", engine.start, lambda: None), "import")
    base |= engine.set_threads(block.threads)
    base["sync"], sync = accelerator.sync_name, accelerator.synchronizer(device)

    # The first use makes an accelerator's context, which must not be part of a later phase.
    yield rows.good(base, timing.once("cold", sync, lambda: None), "device_start")
    gpu = gpu or accelerator.monitor(device)

    loaded = timing.once("cold", lambda: engine.load(block.model, device, block.dtype), sync)
    model = loaded.outcome
    base |= model.columns
    found = json.dumps(environment(engine, device, base, gpu))
    yield rows.good(base, loaded, "model_load") | {"environment": found}

    image = np.load(order.pixels_file, allow_pickle=False)
    if images.hash_pixels(image) != order.pixels_sha256:
        raise CellbenchError("the image changed after the run was planned", order.pixels_file, "run again")
    watch = interference.Watch(gpu, is_host=accelerator.is_host)
    bench = Bench(engine, order, model, image, sync, gpu, watch, idle_w)
    smallest = min(block.tasks, key=lambda task: task.case.height_px * task.case.width_px)
    first = replace(smallest, case=replace(smallest.case, variant=STOCK))  # no variant is applied yet
    with model.witnessed():
        called = timing.once("cold", bench.call(first.case), sync)
    base["device_used"] = model.proof()
    yield rows.good({**rows.row_of(base, first), "position": None}, called, "call")
    return bench


def environment(engine: Engine, device: str, known: Sample, gpu: Monitor | None) -> dict[str, Any]:
    """The facts about this node (machine.facts) for one device, in this process in its present state.

    known: columns of a sample, for facts that the workload decides and not the machine.
    """
    values = {**(gpu.facts() | gpu.live() if gpu else {}), **known}
    others = {fact.name: values[fact.name] for fact in facts.FACTS if fact.name in values}
    # The driver has better facts about the GPU than the machine, which on Linux has no name for it.
    return probe.environment() | others | dict(engine.environment(device))


def environment_of(engine: Engine, device: str) -> dict[str, Any]:
    """The facts about this node for one device, where nothing is measured."""
    engine.start()
    engine.set_threads(probe.n_cores())
    return environment(engine, device, {}, engine.accelerator(device).monitor(device))


# ---------------------------------------------------------------- tasks


def measure_of(role: str) -> Measure:
    """The function that measures a task of this role, here or in the module of a pass."""
    return import_module(f"harness.measure.passes.{role}").run if role in PASSES else TIMED[role]


def failed(engine: Engine, row: Sample, repetition: int, error: BaseException) -> Sample:
    """The sample of a task that raised this error."""
    return rows.bad(row, repetition, status(engine, error), type(error).__name__, str(error))


def status(engine: Engine, error: BaseException) -> str:
    """The status of a row whose call raised this error."""
    ours = {DeviceFallbackError: "device_fallback", VariantFallbackError: "variant_fallback"}
    return ours.get(type(error)) or engine.status(error)


def check_as_asked(effective: Effective) -> None:
    """Raise VariantFallbackError where something else ran than the variant; its time must not carry that name."""
    if notes := effective.notes():
        raise VariantFallbackError("; ".join(dict.fromkeys(notes)))


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


TIMED: dict[str, Measure] = {"timed": _timed, "control": _control}


def _repeat(
    bench: Bench, row: Sample, case: Case, role: str, enough: timing.Enough, earlier_s: Sequence[float] = ()
) -> Iterator[Sample]:
    work = bench.call(case)
    for done in timing.repetitions(role, enough, work, bench.sync, bench.watch.begin, earlier_s=earlier_s):
        bench.model.proof()
        yield rows.good(row, done, "call")


def now(role: str, index: int, elapsed_s: float, outcome: Any = None) -> Repetition[Any]:
    """A repetition that ends now and was timed by a pass itself."""
    return Repetition(role, index, time.time(), elapsed_s, outcome)
