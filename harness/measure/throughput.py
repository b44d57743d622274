"""A share of many images in one process: made ready first, then all of them, one after another or several at once."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from harness.engines.cellpose3 import variants
from harness.measure import block, workload
from harness.measure.block import Order
from harness.measure.workload import Segmentation


def picture(index: int) -> str:
    """The file of one of a folder's images on a node."""
    return f"{index:05}.npy"


def share(order: Order, which: int) -> Iterator[dict[str, Any]]:
    """Say what there is when everything is ready, and, let go, segment every so-many-th image; or say what failed.

    which: number of this process, from 0, among the order's n_processes. The models, one for each image in flight, have
    made a call before the clock starts. Times are of the machine's monotonic clock, which its processes share.
    """
    try:
        yield from _share(order, which)
    except Exception as error:
        yield {"failed": [workload.failure(error), type(error).__name__, str(error)]}


def _share(order: Order, which: int) -> Iterator[dict[str, Any]]:
    told, device = order.constants, order.block.device.id
    workload.import_cellpose()
    columns: dict[str, Any] = dict(workload.set_threads(order.block.threads))
    columns["sync"], sync = workload.synchroniser(device)
    indices = range(which, told["n_images"], told["n_processes"])
    images = [np.load(Path(order.weights_folder) / picture(i), allow_pickle=False) for i in indices]
    models: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(told["n_in_flight"]):
        model = variants.accelerate(workload.load(device), order.block.tasks[0].case.variant)
        workload.segment(model, images[0])
        columns["device_used"] = workload.prove_device(model, device)
        models.put(model)
    columns["diam_labels_px"] = workload.diam_labels_px(model)
    sync()
    yield {"columns": columns, "environment": block.environment(device, columns)}

    def one(pixels: np.ndarray) -> Segmentation:
        mine = models.get()
        try:
            return workload.segment(mine, pixels)
        finally:
            models.put(mine)

    at_unix_s, begin_s = time.time(), time.monotonic()
    with ThreadPoolExecutor(told["n_in_flight"]) as pool:
        found = list(pool.map(one, images))
    sync()
    end_s = time.monotonic()
    cells = [each.n_cells for each in found]
    masks = [each.sha256 for each in found]
    span = {"at_unix_s": at_unix_s, "begin_s": begin_s, "end_s": end_s}
    yield {**span, "indices": list(indices), "n_cells": cells, "masks": masks}
