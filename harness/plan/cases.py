"""The work of a run as values: nodes, cases, tasks, blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.engines.base import STOCK
from harness.engines.registry import DEFAULT, default_model
from harness.machine.accelerators import Device

CONTROL_CROP = "control"
CONTROL_REPEATS = 3  # before and after the cases; their medians are compared


@dataclass(frozen=True)
class Node:
    """One machine: its name in the results, its devices, and the number of CPU threads.

    threads_max: number that its processors run at once; None where unknown.
    """

    name: str
    devices: tuple[Device, ...]
    threads: int
    threads_max: int | None = None


@dataclass(frozen=True)
class Case:
    """The unit that has one median on a device: a crop, segmented by a model under a protocol.

    variant: its canonical text. dtype: the precision that the model is loaded with; a variant may change it.
    """

    crop: str
    height_px: int
    width_px: int
    protocol: str
    variant: str = STOCK
    model: str = field(default_factory=default_model)
    dtype: str = "float32"

    @property
    def label(self) -> str:
        """The case in words: 448 standard, and its variant where that is not stock."""
        return f"{self.crop} {self.protocol}" + ("" if self.variant == STOCK else f" {self.variant}")

    @property
    def is_control(self) -> bool:
        """Whether this is the small drawn image that is the same on every node."""
        return self.crop == CONTROL_CROP

    def is_of(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the results is about this case."""
        return all(getattr(self, name) == row[name] for name in ("crop", "protocol", "model", "variant"))


def control(case: Case) -> Case:
    """The small case that is timed before and after the others, with their model."""
    return Case(CONTROL_CROP, 224, 224, "standard", model=case.model, dtype=case.dtype)


@dataclass(frozen=True)
class Task:
    """One thing that a block does: time a case, or make a pass over it.

    role: timed, control, ceiling, tune (raced against the other variants of its block), or the pass: stages, memory,
    energy or masks. earlier_s: durations in s of repetitions that a resumed run has already. attempt: number of earlier
    attempts.
    """

    role: str
    case: Case
    position: int
    earlier_s: tuple[float, ...] = ()
    attempt: int = 0


@dataclass(frozen=True)
class Effort:
    """The number of repetitions; the words of the profile."""

    warmups: int
    warmups_max: int
    repeats: int
    repeats_max: int
    precision: float | None
    seconds_max: float

    @property
    def most(self) -> int:
        """The maximum number of timed repetitions."""
        return self.repeats if self.precision is None else self.repeats_max


@dataclass(frozen=True)
class Block:
    """A fresh process on one device that performs its tasks once, all with one model of one engine.

    index: its number on that device within the run. The cases are in seeded random order, the control case before and
    after them, the passes last.
    """

    index: int
    device: Device
    tasks: tuple[Task, ...]
    effort: Effort
    idle_wait_s: float = 0.0
    node: str = ""
    threads: int = 1
    engine: str = DEFAULT

    @property
    def model(self) -> str:
        """The one model of its tasks."""
        return self.tasks[0].case.model

    @property
    def dtype(self) -> str:
        """The one precision that the model is loaded with."""
        return self.tasks[0].case.dtype

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases that the block times."""
        return tuple(task.case for task in self.tasks if task.role == "timed")
