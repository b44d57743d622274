"""Estimates of duration from the engine's guess, and the time limit of a silent process. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines import registry
from harness.machine.accelerators import Device
from harness.plan.cases import CONTROL_REPEATS, Block, Case, Effort, Task
from harness.schema import PASSES

START_S = 15.0  # a fresh process: import, compilation, model, first call
# Calls of the tasks that are neither timed nor a pass.
OTHER_CALLS = {"control": 1 + CONTROL_REPEATS, "tune": 12, "throughput": 2}
# Time limit of a silent process: the guess is good to a factor of three on known machines, so ten times the guess is
# longer than any user would wait. The engine adds the time of energy and ceilings.
PATIENCE = 30.0


def gflop(case: Case) -> float:
    """The work of one call in GFLOP."""
    return registry.engine_of(case.model).work(case.model, case.height_px, case.width_px).gflop


def estimate_s(planned: Sequence[Block]) -> float:
    """Estimate the whole run's duration in s, good to a factor of two or three; nodes work at the same time."""
    by_node: dict[str, float] = {}
    for block in planned:
        by_node[block.node] = by_node.get(block.node, 0.0) + block_s(block)
    return max(by_node.values(), default=0.0)


def block_s(block: Block) -> float:
    """Estimate one block's duration in s."""
    return START_S + sum(
        n_calls(task, block.effort) * call_s(task.case, block.device, block.threads) for task in block.tasks
    )


def call_s(case: Case, device: Device, threads: int) -> float:
    """Estimate the duration of one call in s."""
    engine = registry.engine_of(case.model)
    return engine.call_s(engine.work(case.model, case.height_px, case.width_px), device, threads)


def patience_s(block: Block, task: Task) -> float:
    """The time in s that a block's process may be silent during a task before it is given up."""
    n_silent = 1 if task.role == "timed" else _n_calls(task.role)
    silent_s = n_silent * call_s(task.case, block.device, block.threads)
    return registry.engine(block.engine).patience_s + block.idle_wait_s + PATIENCE * silent_s


def n_calls(task: Task, effort: Effort) -> int:
    """The minimum number of calls of the model in a task."""
    return effort.warmups + effort.repeats if task.role == "timed" else _n_calls(task.role)


def _n_calls(role: str) -> int:
    return PASSES[role].n_calls if role in PASSES else OTHER_CALLS[role]
