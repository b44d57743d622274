"""The main job as one pipeline of values: Config → plan → fleet → store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from harness import fleet, images, plan, schema, weights
from harness.config import Config
from harness.images import Image
from harness.measure import worker
from harness.measure.block import Order
from harness.node import probe
from harness.plan import Block, Device
from harness.schema import Sample
from harness.store import Store, new_run_id
from harness.weights import Weights


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start: everything has been found, read and checked."""

    config: Config
    image: Image
    weights: Weights
    devices: tuple[Device, ...]
    blocks: tuple[Block, ...]
    threads: int

    @property
    def n_cases(self) -> int:
        return sum(len(block.cases) for block in self.blocks if block.index == 0)

    @property
    def n_tasks(self) -> int:
        return sum(len(block.tasks) for block in self.blocks)

    @property
    def estimate_s(self) -> float:
        return plan.estimate_s(self.blocks, self.threads)


@dataclass(frozen=True)
class Result:
    """A run that has ended and where its samples are."""

    run_id: str
    store: Store
    n_timed: int
    n_failed: int
    elapsed_s: float


def prepare(config: Config) -> Prepared:
    """Read the image, find the weights and the devices, and plan; what is wrong is said before anything runs."""
    image = images.load(config.image, config.plane, config.channel)
    images.check_crops(image, config.crops)
    found = weights.resolve(config.weights)
    devices = plan.choose(config.devices, [Device(**device) for device in worker.devices()])
    blocks = plan.blocks(config, *image.pixels.shape, devices)
    return Prepared(config, image, found, devices, blocks, config.threads or probe.n_cores())


def run(prepared: Prepared, out: Path, use_ray: bool, on_sample: Callable[[Sample], None]) -> Result:
    """Measure; every sample is on disk before on_sample sees it and before the next repetition begins."""
    store = Store.make(out)
    run_id = new_run_id(time.time())
    begin_s = time.monotonic()
    n_timed = n_failed = 0
    with (
        store.journal(run_id) as journal,
        orders(prepared, run_id) as todo,
        closing(fleet.samples(todo, use_ray)) as samples,
    ):
        for sample in samples:
            journal.append(sample)
            n_timed += sample["role"] == "timed" and sample["status"] == "ok"
            n_failed += sample["status"] not in schema.FINE
            on_sample(sample)
    return Result(run_id, store, n_timed, n_failed, time.monotonic() - begin_s)


@contextmanager
def orders(prepared: Prepared, run_id: str) -> Iterator[list[Order]]:
    """What the workers are told; the image's pixels lie in a file for as long as the context lasts."""
    config, image, found = prepared.config, prepared.image, prepared.weights
    constants = {
        "schema_version": schema.VERSION,
        "run_id": run_id,
        "source": "measured",
        "profile": config.profile,
        "workload": "cellpose",
        "model": "cyto3",
        "weights": found.kind,
        "weights_sha256": found.net_sha256,
        "size_model_sha256": found.size_sha256,
        "image": image.name,
        "image_sha256": image.sha256,
        "image_is_synthetic": image.is_synthetic,
    }
    with TemporaryDirectory(prefix="cellbench-") as scratch:
        pixels_file = Path(scratch) / "image.npy"
        np.save(pixels_file, image.pixels)
        yield [
            Order(block, str(pixels_file), image.sha256, found.folder, prepared.threads, constants)
            for block in prepared.blocks
        ]
