"""From a Config and the nodes there are to the cases to measure, in blocks; pure."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from harness.errors import CellbenchError
from harness.plan.config import Config

# Where a device's speed is not known yet: whole-eval throughput of stock cellpose 3.1 in TFLOP/s of its
# network, for a first guess of the duration. CPU: per physical core, from runs on AVX2 and NEON machines;
# CUDA and MPS: from the article's RTX 4070 (7.8 TFLOP in 5.3 s) and M1 (in 19.6 s).
GUESS_TFLOPS = {"cpu": 0.045, "cuda": 1.5, "mps": 0.4}
TILE_TFLOP = 0.031005  # one 224 px tile through CPnet, counted with torch's FlopCounterMode
START_S = 15.0  # a fresh process: import, numba compilation, model, first call
CONTROL_REPEATS = 3  # before and after the cases; their medians are compared
# How many calls a pass makes, about: three through stages; one for memory; masks twice on the device, once
# on the CPU. Energy repeats for seconds.
PASS_CALLS = {
    "stages": 3, "memory": 1, "energy": 2, "masks": 3, "ceiling": 2, "control": 1 + CONTROL_REPEATS, "tune": 12,
    "throughput": 2,
}  # fmt: skip
# Rows that a pass ends with, not counting the parts of a call; timed and control say themselves when they are over.
N_ROWS = {"stages": 3, "ceiling": 3, "memory": 1, "energy": 1, "masks": 2}
# When to give a silent process up: the guess above is good to a factor of three on machines that we know, so ten
# times it is a machine that nobody would wait for, and energy and ceilings take this long on any.
PATIENCE_S, PATIENCE = 900.0, 30.0


@dataclass(frozen=True)
class Device:
    """A backend with an index, proven to compute."""

    backend: str
    index: int
    name: str

    @property
    def id(self) -> str:
        return f"cuda:{self.index}" if self.backend == "cuda" else self.backend


@dataclass(frozen=True)
class Node:
    """One machine: its name in the results, its devices, and the threads that its CPU gets."""

    name: str
    devices: tuple[Device, ...]
    threads: int


STOCK = "stock"  # the variant that changes nothing


@dataclass(frozen=True)
class Case:
    """What gets one median on a device: a crop under a protocol."""

    crop: str
    height_px: int
    width_px: int
    protocol: str
    variant: str = STOCK

    @property
    def label(self) -> str:
        """The case in words: 448 standard, and its variant where that is not stock."""
        return f"{self.crop} {self.protocol}" + ("" if self.variant == STOCK else f" {self.variant}")

    def is_of(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the results is about this case."""
        return (self.crop, self.protocol, self.variant) == (row["crop"], row["protocol"], row["variant"])


CONTROL = Case("control", 224, 224, "standard")  # the same small drawn image on every node


@dataclass(frozen=True)
class Task:
    """One thing that a block does: time a case, or look at it in another way.

    role: timed, control, ceiling, tune (raced against the other variants of its block), or the pass: stages, memory,
    energy or masks. earlier_s: durations of its repetitions that are in the store already, when a run is resumed.
    attempt: how often it was begun before.
    """

    role: str
    case: Case
    position: int
    earlier_s: tuple[float | None, ...] = ()
    attempt: int = 0


@dataclass(frozen=True)
class Effort:
    """How often to repeat; the words of the profile."""

    warmups: int
    warmups_max: int
    repeats: int
    repeats_max: int
    precision: float | None
    seconds_max: float

    @property
    def most(self) -> int:
        """Timed repetitions at most."""
        return self.repeats if self.precision is None else self.repeats_max


@dataclass(frozen=True)
class Block:
    """A fresh process on one device that goes through its tasks once.

    The cases come in seeded shuffled order, the control case before and after them, the passes last.
    """

    index: int
    device: Device
    tasks: tuple[Task, ...]
    effort: Effort
    idle_wait_s: float = 0.0
    node: str = ""
    threads: int = 1

    @property
    def cases(self) -> tuple[Case, ...]:
        """What the block times."""
        return tuple(task.case for task in self.tasks if task.role == "timed")


def block_from(wire: dict[str, Any]) -> Block:
    """The block that asdict() made these plain values of."""
    tasks = tuple(
        Task(**{**task, "case": Case(**task["case"]), "earlier_s": tuple(task["earlier_s"])}) for task in wire["tasks"]
    )
    return Block(**{**wire, "device": Device(**wire["device"]), "tasks": tasks, "effort": Effort(**wire["effort"])})


def choose(asked: Sequence[str], available: Sequence[Device]) -> tuple[Device, ...]:
    """The devices to measure; asking for one that this machine lacks is an error, never a fallback."""
    if "auto" in asked:
        return tuple(available)
    chosen: list[Device] = []
    for word in asked:
        matching = [d for d in available if word in (d.id, d.backend)]
        if not matching:
            have = ", ".join(f"{d.id} ({d.name})" for d in available)
            raise CellbenchError(f"this machine has no device {word}", "--devices", f"it has: {have}")
        chosen += [d for d in matching if d not in chosen]
    return tuple(chosen)


def choose_on(asked: Sequence[str], nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes with the devices to measure on each; only a device that no node has is an error."""
    if "auto" in asked:
        return tuple(nodes)
    for word in asked:
        if not any(word in (device.id, device.backend) for node in nodes for device in node.devices):
            have = "; ".join(
                f"{'it' if len(nodes) == 1 else node.name} has: {', '.join(f'{d.id} ({d.name})' for d in node.devices)}"
                for node in nodes
            )
            raise CellbenchError(f"no device {word} on {', '.join(node.name for node in nodes)}", "--devices", have)
    chosen = []
    for node in nodes:
        words = [word for word in asked if any(word in (d.id, d.backend) for d in node.devices)]
        if words:
            chosen.append(replace(node, devices=choose(words, node.devices)))
    return tuple(chosen)


def blocks(config: Config, height_px: int, width_px: int, nodes: Sequence[Node]) -> tuple[Block, ...]:
    """Every block of a run, each node's in the order to run them; the same seed gives the same order."""
    cases = [
        Case(str(crop), *((height_px, width_px) if crop == "full" else (crop, crop)), protocol, variant)
        for crop in config.crops
        for protocol in config.protocols
        for variant in config.variants
    ]
    effort = Effort(**{name: getattr(config, name) for name in Effort.__dataclass_fields__})
    planned: list[Block] = []
    for node in nodes:
        threads = config.threads or node.threads
        for index in range(config.blocks):
            rng = random.Random(f"{config.seed}/{index}")
            for device in rng.sample(node.devices, len(node.devices)):
                order = rng.sample(cases, len(cases))
                order = [case for case in order if _selected(config.only, node.name, device.id, case.crop)]
                passes = config.passes if index == 0 else ()
                if order:
                    tasks = _tasks(order, config.control, passes)
                    planned.append(Block(index, device, tasks, effort, config.idle_wait_s, node.name, threads))
    if not planned:
        raise CellbenchError("nothing is left to measure", "--only", "see the cases with --dry-run, without --only")
    return tuple(planned)


def _selected(only: Sequence[str], *parts: str) -> bool:
    """Whether NODE/DEVICE/CROP matches one of the patterns, or there are none."""
    return not only or any(all(map(fnmatchcase, parts, pattern.split("/"))) for pattern in only)


def _tasks(cases: Sequence[Case], control: bool, passes: Sequence[str]) -> tuple[Task, ...]:
    tasks = [Task("timed", case, i) for i, case in enumerate(cases)]
    if control:
        tasks = [Task("control", CONTROL, -1), *tasks, Task("control", CONTROL, len(cases))]
    # Passes cost time and memory of their own, so they come when everything has been timed; they look inside
    # eval(), which is the same in every protocol.
    # The smallest come first, since a process never quite gives back the memory that a large one took.
    looked_at = sorted({replace(case, protocol="standard") for case in cases}, key=lambda c: c.height_px * c.width_px)
    if "stages" in passes:
        tasks.append(Task("ceiling", CONTROL, len(cases)))
    return (*tasks, *(Task(name, case, i) for i, case in enumerate(looked_at) for name in passes))


def n_tiles(height_px: int, width_px: int, scale: float) -> int:
    """Tiles that cellpose 3.1 cuts (224 px, overlap 0.1) after scaling and padding to multiples of 16."""

    def along(length_px: int) -> int:
        canvas_px = 16 * math.ceil(int(length_px * scale) / 16) + 16
        return 1 if canvas_px <= 224 else max(2, math.ceil(1.2 * canvas_px / 224))

    return along(height_px) * along(width_px)


def network_tflop(case: Case, diameter_px: float = 68.0) -> float:
    """Work of the three network passes of eval(diameter=0): style at scale 1, size and mask at 30/diameter."""
    size, scale = (case.height_px, case.width_px), 30.0 / diameter_px
    return TILE_TFLOP * (n_tiles(*size, 1.0) + 2 * n_tiles(*size, scale))


def estimate_s(planned: Sequence[Block]) -> float:
    """A first guess of the whole run's duration, good to a factor of two or three; nodes work side by side."""
    by_node: dict[str, float] = {}
    for block in planned:
        by_node[block.node] = by_node.get(block.node, 0.0) + block_s(block)
    return max(by_node.values(), default=0.0)


def block_s(block: Block) -> float:
    """A first guess of one block's duration."""
    return START_S + sum(n_calls(task, block.effort) * call_s(block, task.case) for task in block.tasks)


def call_s(block: Block, case: Case) -> float:
    """A first guess of the duration of one call."""
    tflops = GUESS_TFLOPS[block.device.backend] * (block.threads if block.device.backend == "cpu" else 1)
    return network_tflop(case) / tflops


def patience_s(block: Block, task: Task) -> float:
    """How long a block's process may be silent during a task before it is given up."""
    n_silent = 1 if task.role == "timed" else PASS_CALLS[task.role]
    return PATIENCE_S + block.idle_wait_s + PATIENCE * n_silent * call_s(block, task.case)


def n_calls(task: Task, effort: Effort) -> int:
    """Calls of the workload that a task makes, at least."""
    return effort.warmups + effort.repeats if task.role == "timed" else PASS_CALLS[task.role]
