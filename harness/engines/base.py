"""The interface between this program and an engine that segments; imports neither torch nor an engine.

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
    """The facts about a model that people read.

    name: the value of --models. title: its name in its authors' words. surrogate_note: what this project's own weights
    share with the published ones, and what not; empty where there are none.
    """

    name: str
    title: str
    surrogate_note: str = ""


@dataclass(frozen=True)
class ModelFiles:
    """A model's files, found and checked.

    kind: published, standin, custom or none. paths: files that are sent to every node; empty where each node finds or
    makes its own from source. columns: hashes and kind as stored with every row. warning: shown before measuring.
    """

    model: str
    kind: str
    paths: tuple[Path, ...]
    columns: Mapping[str, Scalar]
    warning: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Variant:
    """The execution of a model, parsed once: equal settings have equal text.

    names: the canonical words, none for stock. changes_result: whether the user's choice, such as a diameter, changes
    the result; such work is never compared with stock or ranked against it.
    """

    names: tuple[str, ...] = ()
    changes_result: bool = False

    def __str__(self) -> str:
        return "+".join(self.names) or STOCK

    @property
    def is_stock(self) -> bool:
        """Whether the variant is stock."""
        return not self.names


@dataclass(frozen=True)
class Part:
    """One change of a variant, for people. by_hand: the same without this program; empty where that is impossible."""

    name: str
    what: str
    may_change: str
    by_hand: str = ""


@dataclass(frozen=True)
class Work:
    """The work of one call: its tiles through the network and their floating-point operations in GFLOP."""

    n_tiles: int
    gflop: float


@dataclass(frozen=True)
class Stage:
    """A part of a call. group: its group in charts; on_host: whether the host computes it on any device."""

    name: str
    meaning: str
    group: str
    on_host: bool = True


@dataclass(frozen=True)
class StageCatalogue:
    """The parts of a call in their order, and the network passes in which they recur."""

    passes: Mapping[str, str]  # name → meaning
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Segmentation:
    """The result of a call: labels (height, width), 0 is background, and the diameter that was used, in px."""

    masks: np.ndarray
    diameter_px: float

    @property
    def n_cells(self) -> int:
        """The number of cells; the background is not counted."""
        return int(self.masks.max(initial=0))

    @property
    def sha256(self) -> str:
        """The hash of the labels as little-endian uint32."""
        return hashlib.sha256(np.ascontiguousarray(self.masks, "<u4").tobytes()).hexdigest()


@dataclass
class Effective:
    """The effect of a variant while it is applied.

    columns: values that differ from stock's. notes: parts of the variant that did not run as requested, when it was
    applied or in the last call; empty where all did.
    """

    columns: Mapping[str, Scalar] = field(default_factory=dict)
    notes: Callable[[], Sequence[str]] = tuple


class StageRecorder(Protocol):
    """The clock of one call's stages; an engine's hooks drive it."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Record a stage for as long as the context lasts."""
        ...

    def network(self, n_tiles: int, gflop: float, gb: float) -> AbstractContextManager[None]:
        """Record tiles that go through the network, with their work in GFLOP and their memory traffic in GB."""
        ...

    def enter_pass(self, name: str) -> None:
        """Assign the stages that follow to this network pass."""
        ...


class LoadedModel(Protocol):
    """A model on a device, in the measuring process."""

    @property
    def columns(self) -> Mapping[str, Scalar]:
        """The facts about the loaded model that are stored with every row."""
        ...

    def segment(self, pixels: np.ndarray, diameter_px: float | None = None) -> Segmentation:
        """Segment pixels (height, width) as a user's call does. Without a diameter the model estimates it."""
        ...

    def prepare(self, pixels: np.ndarray) -> None:
        """Do once what a call on these pixels needs and what no user's call would do."""
        ...

    def applied(self, variant: Variant) -> AbstractContextManager[Effective]:
        """Execute the model as the variant describes while the context lasts."""
        ...

    def witnessed(self) -> AbstractContextManager[None]:
        """Note the devices of the network's outputs for proof() while the context lasts."""
        ...

    def proof(self) -> str:
        """The device of parameters and noted outputs; DeviceFallbackError where it is not the requested one."""
        ...

    def recorded(self, recorder: StageRecorder) -> AbstractContextManager[None]:
        """Send the stages of every call to the recorder while the context lasts."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A program that segments, with its models."""

    name: str
    requirement: str  # its requirement for pip; empty where nothing is installed
    models: tuple[ModelInfo, ...]
    stages: StageCatalogue
    passes: frozenset[str]
    dtypes: tuple[str, ...]  # precisions that a model can be loaded with, the engine's own first
    columns: Mapping[str, Scalar]  # the arguments of a call in every row, unless a variant sets others
    searched: tuple[tuple[str, ...], ...]  # groups of variants that a search tries, one after another
    patience_s: float  # how long a process may be silent in addition to the estimate of its work

    def version(self) -> str | None:
        """The engine's own version in this environment; None where it is not installed."""
        ...

    def resolve(self, model: str, choice: str, trust: Sequence[str] = ()) -> ModelFiles:
        """Find, check and if necessary fetch a model's files; CellbenchError. trust: hashes that the user accepts."""
        ...

    def variant(self, text: str, backend: str | None = None) -> Variant:
        """Parse a variant; CellbenchError for an unknown or contradictory one, or one that this backend cannot run."""
        ...

    def in_force(self, variant: Variant) -> Mapping[str, Scalar]:
        """The columns that a variant sets, as they are stored; columns that it leaves alone are absent."""
        ...

    def work(
        self, model: str, height_px: int, width_px: int, diameter_px: float | None = None, is_given: bool = False
    ) -> Work:
        """Calculate the work of one call on this number of pixels.

        diameter_px: of the cells; None means a common size. is_given: the call gets the diameter, so it estimates none.
        """
        ...

    def call_s(self, work: Work, device: Device, threads: int) -> float:
        """Estimate the duration of a call in s, before anything is measured."""
        ...

    def parts(self, variant: Variant) -> Sequence[Part]:
        """Describe each part of a variant."""
        ...

    def check(self, model: str) -> Check:
        """Find which files a run would use for a model, without fetching them; CellbenchError."""
        ...

    def recipe(self, variant: Variant, model: str) -> Sequence[str]:
        """Lines of Python that use the variant in a user's own script."""
        ...

    # ------------------------------------------------------------ in the measuring process

    def apply(self, model: Any, variant: str) -> Any:
        """Apply a variant to a model that a user's script loaded.

        Returns an object with names and remove(), which undoes it; None where the model is not this engine's.
        """
        ...

    def devices(self) -> list[Device]:
        """The devices that compute here, the fastest kind first."""
        ...

    def accelerator(self, device: str) -> Accelerator:
        """The kind of a device."""
        ...

    def prepare(self, model: str, folder: str, source: str) -> None:
        """Provide the model's files before anything is timed.

        folder: contains the files that were sent. source: where a node finds its own files, or makes them from.
        """
        ...

    def start(self) -> None:
        """Import the libraries that compute. Called once in a process."""
        ...

    def set_threads(self, n: int) -> Mapping[str, Scalar]:
        """Give every library n threads; returns the numbers that the libraries report."""
        ...

    def load(self, model: str, device: str, dtype: str) -> LoadedModel:
        """Construct the model as a user would, on exactly this device."""
        ...

    def environment(self, device: str) -> Mapping[str, Scalar]:
        """The facts of machine.facts that only this process can find."""
        ...

    def status(self, error: BaseException) -> str:
        """The status of a row whose call raised this error: crash, oom_host or oom_device."""
        ...
