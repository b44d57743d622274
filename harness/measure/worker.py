"""One block on this machine, in a fresh process: an order goes in, samples come out one by one.

    parent: perform(order) ──stdin: order, then one line per "go on"──▶ child: python -m harness.measure.worker
                           ◀──────────stdout: one JSON line a sample──

The child waits for "go on" after every sample, so whatever the parent does with a sample (journal,
screen) is over before the next repetition begins. It dies with its parent: when stdin ends, it exits.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from harness.errors import CellbenchError
from harness.measure import block, selfcheck, workload
from harness.measure.block import Order
from harness.node import probe
from harness.plan import Block, Case, Device, Effort, Task
from harness.schema import Sample


def devices() -> list[dict[str, Any]]:
    """The devices of this machine that compute: dicts of backend, index and name, the CPU last."""
    return ask("devices")


def ask(task: str, **arguments: Any) -> Any:
    """Have one of TASKS done in a process of its own, so that torch stays out of ours; its answer, one JSON value."""
    with _Child({"task": task, "arguments": arguments}, environment(probe.n_cores())) as child:
        answers = list(child.lines())
    if not answers:
        raise CellbenchError(
            f"torch could not be started to find out about {task}", child.error_text, "try: python -c 'import torch'"
        )
    return answers[0]


def perform(order: Order) -> Iterator[Sample]:
    """Run the block and yield its samples; a task that kills its process becomes a row, the others go on."""
    left = list(order.block.tasks)
    while left:
        rest = replace(order, block=replace(order.block, tasks=tuple(left)))
        environ = environment(order.threads, order.weights_folder)
        with _Child({"task": "block", "arguments": {"order": asdict(rest)}}, environ) as child:
            for line in child.lines():
                if line is None:
                    left.pop(0)
                else:
                    yield _from_wire(line)
        if left:
            yield _from_wire(_crash_row(order, left.pop(0), child))


def environment(threads: int, weights_folder: str | None = None) -> dict[str, str]:
    """The child's environment: threads by us, not by Ray's OMP_NUM_THREADS=1; weights where cellpose looks."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    ours = {f"{name}_NUM_THREADS": str(threads) for name in names}
    ours["VECLIB_MAXIMUM_THREADS"] = str(threads)  # Apple's Accelerate
    if weights_folder:
        ours["CELLPOSE_LOCAL_MODELS_PATH"] = weights_folder
    return {**os.environ, **ours}


def _crash_row(order: Order, task: Task, child: _Child) -> Sample:
    """The sample of a task whose process died; written by the parent."""
    row = block.row_of(block.base_columns(order), task) | {"openmp_threads": str(order.threads)}
    return block.ended_badly(row, 0, "crash", _exit_name(child.returncode), child.error_text)


def _from_wire(row: Sample) -> Sample:
    return {**row, "started_at": datetime.fromtimestamp(row["started_at"], UTC)}


def _exit_name(returncode: int) -> str:
    return signal.Signals(-returncode).name if returncode < 0 else f"exit {returncode}"


class _Child:
    """A process that performs one task, in its own session, gone when the block ends."""

    def __init__(self, task: dict[str, Any], env: dict[str, str]) -> None:
        self._task, self._env = task, env
        self.returncode = 0
        self.error_text = ""

    def __enter__(self) -> _Child:
        # Its chatter goes to a file: a pipe that nobody reads would fill up and stop it.
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.measure.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env=self._env, text=True, start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self.returncode = self._process.wait()
        with suppress(BrokenPipeError):  # it died before it read what was said to it
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.seek(0)
        self.error_text = self._errors.read()[-2000:].strip()
        self._errors.close()

    def lines(self) -> Iterator[dict[str, Any]]:
        """What the child says, one value at a time; it goes on when the next one is asked for."""
        with suppress(BrokenPipeError):  # it died; its exit code tells how
            self._say(json.dumps(self._task))
            for line in self._process.stdout:
                if not line.endswith("\n"):
                    break  # killed in the middle of a word
                yield json.loads(line)
                self._say("go on")
        self._process.wait()

    def _say(self, text: str) -> None:
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()


# ---------------------------------------------------------------- in the child


def _block(order: dict[str, Any]) -> Iterator[Sample | None]:
    """The samples of a block; None says that a task is over."""
    for sample in block.samples(_order_from(order)):
        yield None if isinstance(sample, block.Finished) else sample


def _environment(device: str) -> Iterator[dict[str, Any]]:
    workload.set_threads(probe.n_cores())
    yield block.environment(device, {})


TASKS: dict[str, Callable[..., Iterator[Any]]] = {
    "block": _block,
    "devices": lambda: iter([workload.devices()]),
    "environment": _environment,
    "selfcheck": lambda **arguments: iter([selfcheck.run(**arguments)]),
}


def _order_from(wire: dict[str, Any]) -> Order:
    planned = wire["block"]
    tasks = tuple(Task(**{**task, "case": Case(**task["case"])}) for task in planned["tasks"])
    parts = {"device": Device(**planned["device"]), "tasks": tasks, "effort": Effort(**planned["effort"])}
    return Order(**{**wire, "block": Block(**{**planned, **parts})})


def main() -> None:
    """The child: read a task from stdin, answer on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    told: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            told.put(line)
        os._exit(70)  # the parent is gone, and nobody wants our figures any more

    threading.Thread(target=listen, daemon=True).start()
    said = json.loads(told.get())
    for value in TASKS[said["task"]](**said["arguments"]):
        answers.write(json.dumps(value) + "\n")
        answers.flush()
        told.get()


if __name__ == "__main__":
    main()
