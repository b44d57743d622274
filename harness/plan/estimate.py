"""How long it takes, about, as the engine guesses; and when a silent process is given up. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines import registry
from harness.plan.cases import CONTROL_REPEATS, Block, Case, Effort, Task
from harness.schema import PASSES

START_S = 15.0  # a fresh process: import, compilation, model, first call
# Calls of the tasks that are neither timed nor a pass.
OTHER_CALLS = {"control": 1 + CONTROL_REPEATS, "tune": 12, "throughput": 2}
# When to give a silent process up: the guess is good to a factor of three on machines that we know, so ten times it is
# a machine that nobody would wait for. The engine adds what energy and ceilings take on any.
PATIENCE = 30.0


def gflop(case: Case) -> float:
    """Work of one call."""
    return registry.engine_of(case.model).work(case.model, case.height_px, case.width_px).gflop


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
    engine = registry.engine_of(case.model)
    work = engine.work(case.model, case.height_px, case.width_px)
    return engine.call_s(work, block.device, block.threads)


def patience_s(block: Block, task: Task) -> float:
    """How long a block's process may be silent during a task before it is given up."""
    n_silent = 1 if task.role == "timed" else _n_calls(task.role)
    return registry.engine(block.engine).patience_s + block.idle_wait_s + PATIENCE * n_silent * call_s(block, task.case)


def n_calls(task: Task, effort: Effort) -> int:
    """Calls of the model that a task makes, at least."""
    return effort.warmups + effort.repeats if task.role == "timed" else _n_calls(task.role)


def _n_calls(role: str) -> int:
    return PASSES[role].n_calls if role in PASSES else OTHER_CALLS[role]
