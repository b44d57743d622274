"""The seam between this program and an engine that segments; imports neither torch nor an engine.

The parent process uses the light half of an Engine: names, files, variants and the cost of a call. The measuring child
calls start(), then load(), and works with a LoadedModel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from harness.machine.accelerators import Accelerator, Device
from harness.machine.checks import Check

Scalar = str | int | float | bool | None

STOCK = "stock"  # the variant that changes nothing


@dataclass(frozen=True)
class ModelInfo:
    """What people read of a model.

    name: the word of --models. title: as its authors write it. surrogate_note: what our own weights, used in the place
    of the published ones, share with them and what not; empty where there are none.
    """

    name: str
    title: str
    surrogate_note: str = ""


@dataclass(frozen=True)
class ModelFiles:
    """A model's files, found and checked.

    kind: published, standin, custom or none. paths: what is sent to every node; none where each node finds or makes its
    own from source. columns: hashes and kind as stored with every row. warning: shown before anything is measured.
    """

    model: str
    kind: str
    paths: tuple[Path, ...]
    columns: Mapping[str, Scalar]
    warning: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Variant:
    """How a model is executed, parsed once: equal settings have equal text.

    names: the canonical words, none for stock. changes_result: a choice of the user's, such as a diameter, so that the
    result is another; such work is never compared with or ranked against stock.
    """

    names: tuple[str, ...] = ()
    changes_result: bool = False

    def __str__(self) -> str:
        return "+".join(self.names) or STOCK

    @property
    def is_stock(self) -> bool:
        """Whether nothing is changed."""
        return not self.names


@dataclass(frozen=True)
class Part:
    """One change of a variant, for people. by_hand: the same without this program; empty where that is not possible."""

    name: str
    what: str
    may_change: str
    by_hand: str = ""


@dataclass(frozen=True)
class Work:
    """What a call has to do: tiles through the network and their floating-point operations."""

    n_tiles: int
    gflop: float


@dataclass(frozen=True)
class Stage:
    """A part of a call. group: what it is drawn with; on_host: whether the host computes it on any device."""

    name: str
    meaning: str
    group: str
    on_host: bool = True


@dataclass(frozen=True)
class StageCatalogue:
    """The parts of a call in their order, and the passes over the image in which they recur."""

    passes: Mapping[str, str]  # name → meaning
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Segmentation:
    """What a call found: labels (height, width), 0 is background, and the diameter that was used."""

    masks: np.ndarray
    diameter_px: float

    @property
    def n_cells(self) -> int:
        """Cells, the background not counted."""
        return int(self.masks.max(initial=0))

    @property
    def sha256(self) -> str:
        """The hash of the labels as little-endian uint32."""
        return hashlib.sha256(np.ascontiguousarray(self.masks, "<u4").tobytes()).hexdigest()


@dataclass
class Effective:
    """A variant while it is in force.

    columns: what differs from stock's. notes: what of the variant did not go as asked, when it was applied or in the
    last call; empty where all did.
    """

    columns: Mapping[str, Scalar] = field(default_factory=dict)
    notes: Callable[[], Sequence[str]] = tuple


class StageRecorder(Protocol):
    """The clock of one call's stages, which an engine's hooks drive."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A stage begins and ends."""
        ...

    def network(self, n_tiles: int, gflop: float, gb: float) -> AbstractContextManager[None]:
        """Tiles go through the network, with so much work and memory traffic."""
        ...

    def enter_pass(self, name: str) -> None:
        """What follows belongs to this pass over the image."""
        ...


class LoadedModel(Protocol):
    """A model on a device, in the measuring process."""

    @property
    def columns(self) -> Mapping[str, Scalar]:
        """What the loaded model tells about itself, as stored with every row."""
        ...

    def segment(self, pixels: np.ndarray, diameter_px: float | None = None) -> Segmentation:
        """One call as a user makes it; pixels (height, width). Without a diameter it is estimated."""
        ...

    def prepare(self, pixels: np.ndarray) -> None:
        """Do what a call on these pixels needs once, and what no user's call would do."""
        ...

    def applied(self, variant: Variant) -> AbstractContextManager[Effective]:
        """The model executed in another way while the context lasts."""
        ...

    def witnessed(self) -> AbstractContextManager[None]:
        """The devices of the network's outputs are noted for proof()."""
        ...

    def proof(self) -> str:
        """The device of parameters and noted outputs; DeviceFallbackError where it is not the one asked for."""
        ...

    def recorded(self, recorder: StageRecorder) -> AbstractContextManager[None]:
        """Every call's stages are told to the recorder."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A program that segments, with its models."""

    name: str
    requirement: str  # what pip is to install for it; empty where nothing is
    models: tuple[ModelInfo, ...]
    stages: StageCatalogue
    passes: frozenset[str]
    dtypes: tuple[str, ...]  # precisions that a model can be loaded with, the engine's own first
    columns: Mapping[str, Scalar]  # of every row: what a call is given unless a variant says otherwise
    searched: tuple[tuple[str, ...], ...]  # groups of variants that a search tries, one after another
    patience_s: float  # how long a process may be silent beyond what its work explains

    def version(self) -> str | None:
        """The engine's own version in this environment; None where it is not installed."""
        ...

    def resolve(self, model: str, choice: str, trust: Sequence[str] = ()) -> ModelFiles:
        """Find, check and if need be fetch a model's files; CellbenchError. trust: hashes that a user vouches for."""
        ...

    def variant(self, text: str, backend: str | None = None) -> Variant:
        """The canonical form; CellbenchError for what is unknown, contradictory or not for this backend."""
        ...

    def in_force(self, variant: Variant) -> Mapping[str, Scalar]:
        """The columns that a variant decides, as they are stored; those that it leaves alone are not there."""
        ...

    def work(
        self, model: str, height_px: int, width_px: int, diameter_px: float | None = None, is_given: bool = False
    ) -> Work:
        """What one call on so many pixels has to do.

        diameter_px: of the cells; None means a common size. is_given: the call is told it, and need not estimate it.
        """
        ...

    def call_s(self, work: Work, device: Device, threads: int) -> float:
        """A first guess of a call's duration."""
        ...

    def parts(self, variant: Variant) -> Sequence[Part]:
        """What each part of a variant is."""
        ...

    def check(self, model: str) -> Check:
        """Which files a run would use for a model, found out without fetching them; CellbenchError."""
        ...

    def recipe(self, variant: Variant, model: str) -> Sequence[str]:
        """Lines of Python that use the variant in a script of one's own."""
        ...

    # ------------------------------------------------------------ in the measuring process

    def accelerate(self, model: Any, variant: str) -> bool:
        """Apply a variant to a model that a script of one's own loaded; False where the model is not this engine's."""
        ...

    def devices(self) -> list[Device]:
        """The devices that compute here, the fastest kind first."""
        ...

    def accelerator(self, device: str) -> Accelerator:
        """The kind of a device."""
        ...

    def prepare(self, model: str, folder: str, source: str) -> None:
        """Have the model's files at hand, before anything is timed.

        folder: where those that were sent lie. source: what a node finds or makes its own from.
        """
        ...

    def start(self) -> None:
        """Import what computes. Once a process."""
        ...

    def set_threads(self, n: int) -> Mapping[str, Scalar]:
        """Give every library n threads; returns what they say they have."""
        ...

    def load(self, model: str, device: str, dtype: str) -> LoadedModel:
        """Construct the model as a user would, on exactly this device."""
        ...

    def environment(self, device: str) -> Mapping[str, Scalar]:
        """Facts of machine.facts that only this process can tell."""
        ...

    def status(self, error: BaseException) -> str:
        """The status of a row whose call raised this: crash, oom_host or oom_device."""
        ...
