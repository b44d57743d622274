"""The main job as a pipeline of values: Config → Material → plan on a fleet → samples → store."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import files, images, schema
from harness.engines import registry
from harness.engines.base import ModelFiles, Scalar
from harness.errors import CellbenchError
from harness.fleet.driver import Fleet, survey
from harness.fleet.driver.artifacts import Parcel, parcel
from harness.fleet.driver.survey import Member
from harness.images import Image
from harness.machine.versions import differences
from harness.measure.wire import Order
from harness.plan import blocks, estimate
from harness.plan.blocks import LeftOut
from harness.plan.cases import Block
from harness.plan.config import Config
from harness.run import resume
from harness.run.resume import Manifest
from harness.schema import Sample
from harness.store import Store, new_run_id

PIXELS = "image.npy"


@dataclass(frozen=True)
class Material:
    """The image and the models of a run, found, read and checked."""

    config: Config
    image: Image
    models: tuple[ModelFiles, ...]

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines of the models, each once."""
        return tuple(dict.fromkeys(registry.engine_of(each.model).name for each in self.models))

    def parcels(self) -> tuple[Parcel, ...]:
        """The files that every node needs."""
        pixels = io.BytesIO()
        np.save(pixels, self.image.pixels)
        files = dict.fromkeys(path for each in self.models for path in each.paths)
        return (parcel(PIXELS, pixels.getvalue()), *(parcel(path.name, path.read_bytes()) for path in files))


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start: its work, its places, its blocks, and the cases that would take too long."""

    material: Material
    members: tuple[Member, ...]
    blocks: tuple[Block, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def config(self) -> Config:
        return self.material.config

    @property
    def n_cases(self) -> int:
        return len({(block.node, block.device.id, case) for block in self.blocks for case in block.cases})

    @property
    def estimate_s(self) -> float:
        return estimate.estimate_s(self.blocks)


@dataclass(frozen=True)
class Result:
    """A run that has ended, and the place of its samples."""

    run_id: str
    store: Store
    n_timed: int
    n_failed: int
    elapsed_s: float


def gather(config: Config) -> Material:
    """Read the image and find the weights; their errors are reported before anything is started."""
    image = images.load(config.image, config.plane, config.channel)
    images.check_crops(image, config.crops)
    models = (registry.engine_of(each).resolve(each, config.weights, config.trust) for each in config.models)
    return Material(config, image, tuple(models))


def prepare(material: Material, members: Sequence[Member], allow_mixed: bool = False) -> Prepared:
    """Plan the run on these nodes; nodes whose software would make another measurement of it are rejected."""
    config = material.config
    nodes = blocks.choose_on(config.devices, [member.node for member in members])
    taking_part = tuple(member for member in members if member.name in {node.name for node in nodes})
    if not allow_mixed:
        _check_alike(taking_part, material.engines, config.engine_python)
    height_px, width_px = material.image.pixels.shape
    planned = blocks.blocks(config, height_px, width_px, nodes)
    left_out = blocks.left_out(config, height_px, width_px, nodes)
    if not planned and left_out:
        raise CellbenchError(
            f"a call of every case would take longer than {config.call_seconds_max:g} s", "call_seconds_max",
            f"choose the sizes yourself: --crops {left_out[0].crops[0]}",
        )  # fmt: skip
    return Prepared(material, taking_part, planned, left_out)


def run(
    prepared: Prepared, fleet: Fleet, out: Path, on_sample: Callable[[Sample], None], run_id: str | None = None
) -> Result:
    """Measure. Every sample is on disk before on_sample gets it and before its node's next repetition begins.

    run_id: the run that is resumed; a new one unless given.
    """
    store = Store.make(out)
    run_id = run_id or new_run_id(time.time())
    begin_s = time.monotonic()
    is_new = resume.write(store, manifest_of(prepared, fleet, run_id))
    places = fleet.deliver(prepared.material.parcels())
    n_timed = n_failed = 0
    with store.journal(run_id) as journal, closing(fleet.batches(orders(prepared, run_id, places))) as batches:
        if not is_new:  # from here on, no other command can resume it
            resume.check_left(store, run_id, prepared.blocks)
        for sample in journal.record(batches):
            n_timed += sample["role"] == "timed" and sample["status"] == "ok"
            n_failed += sample["status"] not in schema.FINE
            on_sample(sample)
    return Result(run_id, store, n_timed, n_failed, time.monotonic() - begin_s)


def orders(prepared: Prepared, run_id: str, places: Mapping[str, str]) -> list[Order]:
    """The orders of the measuring processes; places: the folder of image and weights on each node."""
    image = prepared.material.image
    constants = {
        "schema_version": schema.VERSION,
        "run_id": run_id,
        "source": "measured",
        "profile": prepared.config.profile,
        "image": image.name,
        "image_sha256": image.sha256,
        "image_is_synthetic": image.is_synthetic,
    }
    of_model = {each.model: each.columns for each in prepared.material.models}
    source = {each.model: each.source for each in prepared.material.models}
    versions = {member.name: member.versions for member in prepared.members}
    drives = {member.name: member.drives for member in prepared.members}
    return [
        Order(
            block, str(Path(places[block.node]) / PIXELS), image.sha256, places[block.node],
            {**constants, **of_model[block.model], "node": block.node, "drives_run": drives[block.node],
             "engine_version": versions[block.node].get(block.engine)},
            source[block.model], prepared.config.engine_python,
        )
        for block in prepared.blocks
    ]  # fmt: skip


def again(material: Material, manifest: Manifest, members: Sequence[Member], todo: Sequence[Block]) -> Prepared:
    """The rest of a run, on those of its nodes that are there; image and weights must be the same as before."""
    if (material.image.sha256, _hashes(material)) != (manifest.image_sha256, manifest.model_files):
        kinds = ", ".join(f"{each.model} {each.kind}" for each in material.models)
        raise CellbenchError(
            "image or weights differ from those of the run's start", f"{material.image.name}; weights: {kinds}",
            "put them back, or start a new run: cellbench run",
        )  # fmt: skip
    there = {member.name: {device.id for device in member.node.devices} for member in members}
    left = tuple(block for block in todo if block.device.id in there.get(block.node, ()))
    names = {block.node for block in left}
    taking_part = tuple(member for member in members if member.name in names)
    _check_same_software(manifest, taking_part)
    return Prepared(material, taking_part, left)


def manifest_of(prepared: Prepared, fleet: Fleet, run_id: str, command: str = "run") -> Manifest:
    """The plan of a run, for resuming it or reading it later."""
    material = prepared.material
    named = material.config.image
    path = named if material.image.is_synthetic else str(files.expanded(named).absolute())
    return Manifest(
        run_id=run_id,
        command=command,
        config=material.config.model_copy(update={"image": path}),
        image_sha256=material.image.sha256,
        model_files=_hashes(material),
        versions={member.name: dict(member.versions) for member in prepared.members},
        address=fleet.address,
        use_ray=fleet.use_ray,
        blocks=prepared.blocks,
    )


def _hashes(material: Material) -> dict[str, dict[str, Scalar]]:
    return {each.model: dict(each.columns) for each in material.models}


def _check_same_software(manifest: Manifest, members: Sequence[Member]) -> None:
    """Require the same software: one case is measured with one software, so an upgrade requires another run."""
    changed = [
        f"{member.name}: {each.name} {each.there}, the run began with {each.here}"
        for member in members
        for each in differences(manifest.versions.get(member.name, {}), member.versions)
        if each.name != "ray"
    ]
    if changed:
        raise CellbenchError(
            "the software differs from that of the run's start", "; ".join(changed),
            "put it back, or start a new run: cellbench run",
        )  # fmt: skip


def _check_alike(members: Sequence[Member], engines: Sequence[str], python: str | None) -> None:
    here = survey.versions_of(engines, python)
    bad = [
        f"{member.name}: {each.name} {each.there}, here {each.here}"
        for member in members
        for each in member.differs(here)
        if each.breaks_comparison or each.name in engines
    ]
    if bad:
        raise CellbenchError(
            "nodes have other versions of cellbench or of an engine", "; ".join(bad),
            "install the same there, leave them out with --nodes, or accept it with --allow-mixed",
        )  # fmt: skip
