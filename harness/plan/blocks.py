"""The blocks to measure, from a Config and the available nodes; pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product

from harness.engines import registry
from harness.engines.base import Engine, Variant
from harness.errors import CellbenchError
from harness.machine.accelerators import Device
from harness.plan import estimate
from harness.plan.cases import Block, Case, Effort, Node, Task, control
from harness.plan.config import Config
from harness.schema import PASSES

NAMED = 6  # cases that a message names


@dataclass(frozen=True)
class LeftOut:
    """The cases of a model on a device that would take too long.

    crops: their sizes. call_s: the estimated duration of the shortest call of them, in s.
    """

    node: str
    device: Device
    model: str
    crops: tuple[str, ...]
    call_s: float


def choose(selectors: Sequence[str], available: Sequence[Device]) -> tuple[Device, ...]:
    """Select the devices to measure; a device that this machine lacks is an error and is never replaced."""
    if "auto" in selectors:
        return tuple(available)
    chosen: list[Device] = []
    for word in selectors:
        matching = [d for d in available if word in (d.id, d.backend)]
        if not matching:
            have = ", ".join(f"{d.id} ({d.name})" for d in available)
            raise CellbenchError(f"this machine has no device {word}", "--devices", f"it has: {have}")
        chosen += [d for d in matching if d not in chosen]
    return tuple(chosen)


def choose_on(selectors: Sequence[str], nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Select the devices of each node; only a device that no node has is an error."""
    if "auto" in selectors:
        return tuple(nodes)
    if "fastest" in selectors:  # an accelerator where there is one; the fastest of several is not known before a run
        return tuple(replace(n, devices=(min(n.devices, key=lambda each: each.backend == "cpu"),)) for n in nodes)
    for word in selectors:
        if not any(word in (device.id, device.backend) for node in nodes for device in node.devices):
            have = "; ".join(
                f"{'it' if len(nodes) == 1 else node.name} has: {', '.join(f'{d.id} ({d.name})' for d in node.devices)}"
                for node in nodes
            )
            raise CellbenchError(f"no device {word} on {', '.join(node.name for node in nodes)}", "--devices", have)
    chosen = []
    for node in nodes:
        words = [word for word in selectors if any(word in (d.id, d.backend) for d in node.devices)]
        if words:
            chosen.append(replace(node, devices=choose(words, node.devices)))
    return tuple(chosen)


def blocks(config: Config, height_px: int, width_px: int, nodes: Sequence[Node]) -> tuple[Block, ...]:
    """Plan every block of a run, each node's in the order to run them; the same seed gives the same order.

    A block is a process and has one model in one precision. In every round a device gets a block for each of these.
    """
    effort = Effort(**{name: getattr(config, name) for name in Effort.__dataclass_fields__})
    planned: list[Block] = []
    _check_possible(config, nodes)
    for node in nodes:
        threads = config.threads or node.threads
        n_blocks: Counter[str] = Counter()
        for round_ in range(config.blocks):
            rng = random.Random(f"{config.seed}/{round_}")
            places = [
                (device, model, dtype)
                for device in node.devices
                for model in config.models
                for dtype in _dtypes(config, model)
            ]
            for device, model, dtype in rng.sample(places, len(places)):
                cases = _cases(config, model, dtype, height_px, width_px)
                order = [
                    case
                    for case in rng.sample(cases, len(cases))
                    if _selected(config.only, node.name, device.id, case.crop)
                    and not _is_too_long(config, estimate.call_s(case, device, threads))
                ]
                if order:
                    engine = registry.engine_of(model)
                    tasks = _tasks(order, config.control, config.passes if round_ == 0 else (), engine.passes)
                    index, wait_s = n_blocks[device.id], config.idle_wait_s
                    n_blocks[device.id] += 1
                    planned.append(Block(index, device, tasks, effort, wait_s, node.name, threads, engine.name))
    return tuple(planned)


def left_out(config: Config, height_px: int, width_px: int, nodes: Sequence[Node]) -> tuple[LeftOut, ...]:
    """What the profile's call_seconds_max keeps out of a run, smallest sizes first."""
    found: list[LeftOut] = []
    for node, model in product(nodes, config.models):
        for device in node.devices:
            calls_s = {
                case.crop: call_s
                for case in _cases(config, model, _dtypes(config, model)[0], height_px, width_px)
                if _selected(config.only, node.name, device.id, case.crop)
                and _is_too_long(config, call_s := estimate.call_s(case, device, config.threads or node.threads))
            }
            if calls_s:
                found.append(LeftOut(node.name, device, model, tuple(calls_s), min(calls_s.values())))
    return tuple(found)


def _is_too_long(config: Config, call_s: float) -> bool:
    return config.call_seconds_max is not None and call_s > config.call_seconds_max


def _check_possible(config: Config, nodes: Sequence[Node]) -> None:
    """Reject a case that cannot be measured as requested: it would be left out, or other work be timed."""
    places = [(node.name, device.id, str(crop)) for node in nodes for device in node.devices for crop in config.crops]
    for pattern in config.only:
        if not any(_selected([pattern], *place) for place in places):
            there = ", ".join("/".join(place) for place in places[:NAMED]) + (", …" if len(places) > NAMED else "")
            raise CellbenchError(f"no case is called {pattern}", "--only", f"there are {there}")
    for node in nodes:
        _check_threads(node, config.threads)
        used = {d.backend for d in node.devices if _is_chosen(config, node.name, d.id)}
        for engine, text in product(map(registry.engine_of, config.models), config.variants):
            for backend in sorted(used):
                variant = _possible(engine, text, backend)
                threads = engine.in_force(variant).get("torch_threads")
                _check_threads(node, threads if isinstance(threads, int) else None, "--variants")


def _check_threads(node: Node, threads: int | None, flag: str = "--threads") -> None:
    if threads and node.threads_max and threads > node.threads_max:
        what = f"{threads} threads are more than {node.name} runs at once"
        raise CellbenchError(what, flag, f"give at most {node.threads_max}")


def _possible(engine: Engine, text: str, backend: str) -> Variant:
    try:
        return engine.variant(text, backend)
    except CellbenchError as error:
        raise CellbenchError(
            error.what, "--variants, --devices", f"{error.fix}; choose such devices, or leave it out"
        ) from error


def _is_chosen(config: Config, node: str, device: str) -> bool:
    """Whether any case is measured on this device."""
    return any(_selected(config.only, node, device, str(crop)) for crop in config.crops)


def _dtypes(config: Config, model: str) -> tuple[str, ...]:
    """The precisions of a model: the requested ones, or its engine's own."""
    return config.dtypes or registry.engine_of(model).dtypes[:1]


def _cases(config: Config, model: str, dtype: str, height_px: int, width_px: int) -> list[Case]:
    variants = [str(registry.engine_of(model).variant(each)) for each in config.variants]
    return [
        Case(
            str(crop),
            *((height_px, width_px) if isinstance(crop, str) else (crop, crop)),
            protocol,
            variant,
            model,
            dtype,
        )
        for crop in config.crops
        for protocol in config.protocols
        for variant in variants
    ]


def _selected(only: Sequence[str], *parts: str) -> bool:
    """Whether NODE/DEVICE/CROP matches one of the patterns, or there are none."""
    return not only or any(all(map(fnmatchcase, parts, pattern.split("/"))) for pattern in only)


def _tasks(cases: Sequence[Case], has_control: bool, names: Sequence[str], has: Set[str]) -> tuple[Task, ...]:
    """The tasks of a block. names: passes of the profile; has: passes of the engine."""
    small, last = control(cases[0]), len(cases)
    passes = [name for name in names if name in has]
    tasks = [Task("timed", case, i) for i, case in enumerate(cases)]
    if has_control:
        tasks = [Task("control", small, -1), *tasks, Task("control", small, last)]
    # Passes cost time and memory of their own, so they come after all timing; they look inside a call, which is the
    # same in every protocol. The smallest come first, since a process never releases all memory of a large one.
    standard = dict.fromkeys(replace(case, protocol="standard") for case in cases)
    looked_at = sorted(standard, key=lambda case: case.height_px * case.width_px)
    once = [Task(each.role, small, last) for each in PASSES.values() if each.follows in passes and each.role in has]
    return (*tasks, *once, *(Task(name, case, i) for i, case in enumerate(looked_at) for name in passes))
