"""A share of many images in one process: set up first, then segmented one after another or several at once."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.engines import registry
from harness.engines.base import Effective, Engine, LoadedModel, Segmentation
from harness.measure import block
from harness.measure.wire import ThroughputOrder


@dataclass(frozen=True)
class Ready:
    """The process is set up. columns: as stored with the row; environment: the facts about the node."""

    columns: dict[str, Any]
    environment: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The process failed: status, type and text of the error."""

    status: str
    error_type: str
    text: str


@dataclass(frozen=True)
class Done:
    """The images of one process, with times of the monotonic clock that all processes share; masks are hashes."""

    at_unix_s: float
    begin_s: float
    end_s: float
    indices: list[int] = field(default_factory=list)
    n_cells: list[int] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)


def answer_from(value: dict[str, Any] | None) -> Ready | Done | Failed | None:
    """A process's answer from plain values; None for a process that died."""
    if value is None:
        return None
    kind = Ready if "columns" in value else Failed if "error_type" in value else Done
    return kind(**value)


def image_file(index: int) -> str:
    """The file of one of the images on a node."""
    return f"{index:05}.npy"


def share(order: ThroughputOrder, which: int, engine: Engine | None = None) -> Iterator[Ready | Done | Failed]:
    """Yield Ready, then wait for the start signal and segment this process's share of the images; Failed on an error.

    which: number of this process, from 0, among the order's n_processes. The models, one for each image in flight, have
    made a call before the clock starts.
    """
    engine = engine or registry.engine(order.block.engine)
    try:
        with ExitStack() as applied:
            yield from _share(engine, order, which, applied)
    except Exception as error:
        yield Failed(block.status(engine, error), type(error).__name__, str(error))


def _share(engine: Engine, order: ThroughputOrder, which: int, applied: ExitStack) -> Iterator[Ready | Done | Failed]:
    device, [task] = order.block.device.id, order.block.tasks
    engine.prepare(order.block.model, order.folder, order.model_source)
    engine.start()
    columns: dict[str, Any] = dict(engine.set_threads(order.block.threads))
    accelerator = engine.accelerator(device)
    columns["sync"], sync = accelerator.sync_name, accelerator.synchronizer(device)
    indices = list(range(which, order.n_images, order.n_processes))
    images = [np.load(Path(order.folder) / image_file(i), allow_pickle=False) for i in indices]
    models: queue.SimpleQueue[tuple[LoadedModel, Effective]] = queue.SimpleQueue()
    for _ in range(order.n_in_flight):
        model = engine.load(order.block.model, device, order.block.dtype)
        effective = applied.enter_context(model.applied(engine.variant(task.case.variant)))
        for pixels in images:
            model.prepare(pixels)
        model.segment(images[0])
        block.check_as_asked(effective)
        columns |= {**model.columns, **effective.columns, "device_used": model.proof()}
        models.put((model, effective))
    sync()
    yield Ready(columns, block.environment(engine, device, columns, accelerator.monitor(device)))

    def one(pixels: np.ndarray) -> Segmentation:
        model, effective = mine = models.get()
        try:
            found = model.segment(pixels)
            block.check_as_asked(effective)
            return found
        finally:
            models.put(mine)

    at_unix_s, begin_s = time.time(), time.monotonic()
    with ThreadPoolExecutor(order.n_in_flight) as pool:
        found = list(pool.map(one, images))
    sync()
    end_s = time.monotonic()
    yield Done(at_unix_s, begin_s, end_s, indices, [each.n_cells for each in found], [each.sha256 for each in found])
