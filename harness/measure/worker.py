"""One block on this machine, in a fresh process: an order goes in, samples come out one by one.

    parent: perform(order) ──stdin: order, then one line per "go on"──▶ child: python -m harness.measure.worker
                           ◀──────────stdout: one JSON line a sample──

The child waits for "go on" after every sample, so whatever the parent does with a sample (journal,
screen) is over before the next repetition begins. It dies with its parent: when stdin ends, it exits.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from multiprocessing import connection
from typing import Any

from harness import plan
from harness.errors import CellbenchError
from harness.machine import probe
from harness.measure import block, race, selfcheck, throughput, workload
from harness.measure.block import Finished, Order
from harness.plan import Task
from harness.schema import Sample

DEATH_S = 60.0  # after SIGKILL; giving back the memory of a GPU takes seconds
ANSWER_S = 120.0  # importing torch and a first kernel take seconds, minutes on a machine that swaps


def devices() -> list[dict[str, Any]]:
    """The devices of this machine that compute: dicts of backend, index and name, the CPU last."""
    return ask("devices")


def ask(task: str, **arguments: Any) -> Any:
    """Have one of TASKS done in a process of its own, so that torch stays out of ours; its answer, one JSON value."""
    with _Child({"task": task, "arguments": arguments}, environment(probe.n_cores())) as child:
        answers = list(child.lines(lambda: ANSWER_S))
    if child.gave_up:
        raise CellbenchError(
            f"finding out about {task} took more than {ANSWER_S:g} s", child.error_text or None,
            "a device that hangs keeps its process waiting: restart its driver or the machine",
        )  # fmt: skip
    if not answers:
        raise CellbenchError(
            f"torch could not be started to find out about {task}", child.error_text, "try: python -c 'import torch'"
        )
    return answers[0]


def perform(order: Order) -> Iterator[Sample | Finished]:
    """Run the block and yield its samples, and Finished after each task's last.

    A task that kills its process, or keeps it silent for too long, becomes a row; the others go on in a new process.
    """
    if order.block.tasks[0].role == "throughput":
        yield _together(order)
        yield Finished()
        return
    left = list(order.block.tasks)

    def patience_s() -> float:
        return plan.patience_s(order.block, left[0]) if left else ANSWER_S

    while left:
        rest = replace(order, block=replace(order.block, tasks=tuple(left)))
        environ = environment(order.block.threads, order.weights_folder)
        with _Child({"task": "block", "arguments": {"order": asdict(rest)}}, environ) as child:
            for line in child.lines(patience_s):
                if line is None:
                    left.pop(0)
                    yield Finished()
                else:
                    yield from_wire(line)
            waited_s = patience_s()
        for _ in range(len(left) if child.survived else min(len(left), 1)):
            yield from_wire(_lost_process(order, left.pop(0), child, waited_s))
            yield Finished()


def _together(order: Order) -> Sample:
    """Many images in several processes, which all begin when the last one is ready."""
    [task], told = order.block.tasks, order.constants
    patience_s = plan.patience_s(order.block, task) * told["n_images"]
    environ = environment(order.block.threads, order.weights_folder)
    calls = [{"order": asdict(order), "which": number} for number in range(told["n_processes"])]
    with ExitStack() as stack, ThreadPoolExecutor(len(calls)) as pool:
        children = [stack.enter_context(_Child({"task": "share", "arguments": each}, environ)) for each in calls]
        talks = [child.lines(lambda: patience_s) for child in children]
        ready, done = (list(pool.map(lambda talk: next(talk, None), talks)) for _ in range(2))
    columns = next((each["columns"] for each in ready if each and "columns" in each), {})
    row = block.row_of(block.base_columns(order), task) | columns | {"openmp_threads": str(order.block.threads)}
    if failed := next((each["failed"] for each in (*ready, *done) if each and "failed" in each), None):
        return from_wire(block.ended_badly(row, order.block.index, *failed))
    if lost := [child for child, said in zip(children, done, strict=True) if said is None]:
        return _lost_process(order, task, lost[0], patience_s) | columns | {"repetition": order.block.index}
    elapsed_s = max(each["end_s"] for each in done) - min(each["begin_s"] for each in done)
    masks = dict(pair for each in done for pair in zip(each["indices"], each["masks"], strict=True))
    row |= {
        "phase": "call", "repetition": order.block.index, "elapsed_s": elapsed_s,
        "started_at": min(each["at_unix_s"] for each in done), "status": "ok",
        "n_cells": sum(sum(each["n_cells"]) for each in done),
        "mask_sha256": hashlib.sha256("".join(masks[i] for i in sorted(masks)).encode()).hexdigest(),
        "environment": json.dumps(ready[0]["environment"]),
    }  # fmt: skip
    return from_wire(block.identified(row))


def environment(threads: int, weights_folder: str | None = None) -> dict[str, str]:
    """The child's environment: threads by us, not by Ray's OMP_NUM_THREADS=1; weights where cellpose looks."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    ours = {f"{name}_NUM_THREADS": str(threads) for name in names}
    ours["VECLIB_MAXIMUM_THREADS"] = str(threads)  # Apple's Accelerate
    if weights_folder:
        ours["CELLPOSE_LOCAL_MODELS_PATH"] = weights_folder
    return {**os.environ, **ours}


def _lost_process(order: Order, task: Task, child: _Child, waited_s: float) -> Sample:
    """The sample of a task whose process died or was given up; written by the parent."""
    row = block.row_of(block.base_columns(order), task) | {"openmp_threads": str(order.block.threads)}
    if child.survived:
        text = "its process does not die, so its device hangs: nothing more can be measured; restart the machine"
        return block.ended_badly(row, 0, "timeout", "TimeoutError", f"{text}. {child.error_text}".strip())
    if child.gave_up:
        text = f"no sign of life for {waited_s:.0f} s; its process was killed. {child.error_text}".strip()
        return block.ended_badly(row, 0, "timeout", "TimeoutError", text)
    return block.ended_badly(row, 0, "crash", _exit_name(child.returncode), child.error_text)


def from_wire(row: Sample) -> Sample:
    """The sample with its time as the store wants it; between processes it is a number."""
    return {**row, "started_at": datetime.fromtimestamp(row["started_at"], UTC)}


def _exit_name(returncode: int) -> str:
    return signal.Signals(-returncode).name if returncode < 0 else f"exit {returncode}"


class _Child:
    """A process that performs one task, in its own session, gone when the block ends."""

    def __init__(self, task: dict[str, Any], env: dict[str, str]) -> None:
        self._task, self._env = task, env
        self.returncode = 0
        self.error_text = ""
        self.gave_up = False
        self.survived = False
        self._heard = b""

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
        self._kill()
        try:
            self.returncode = self._process.wait(DEATH_S)
        except subprocess.TimeoutExpired:  # a driver that hangs keeps it from dying
            self.survived = True
        with suppress(BrokenPipeError):  # it died before it read what was said to it
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.seek(0)
        self.error_text = self._errors.read()[-2000:].strip()
        self._errors.close()

    def lines(self, patience_s: Callable[[], float]) -> Iterator[dict[str, Any] | None]:
        """What the child says, one value at a time; it goes on when the next one is asked for.

        patience_s is asked before each value how long to wait for it; a child that takes longer is killed.
        """
        with suppress(BrokenPipeError):  # it died; its exit code tells how
            self._say(json.dumps(self._task))
            while (line := self._line(patience_s())).endswith("\n"):  # else killed in the middle of a word
                yield json.loads(line)
                self._say("go on")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(DEATH_S)

    def _line(self, limit_s: float) -> str:
        """What it says next, up to the end of the line or of its life."""
        pipe, end_s = self._process.stdout.fileno(), time.monotonic() + limit_s
        while b"\n" not in self._heard:
            # Not a blocking read: a process that cannot be killed would keep us waiting with it.
            if not connection.wait([pipe], max(end_s - time.monotonic(), 0)):
                self.gave_up = True
                self._kill()
                return ""
            if not (said := os.read(pipe, 1 << 16)):
                return self._heard.decode()
            self._heard += said
        line, self._heard = self._heard.split(b"\n", 1)
        return line.decode() + "\n"

    def _kill(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _say(self, text: str) -> None:
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()


# ---------------------------------------------------------------- in the child


def _block(order: dict[str, Any]) -> Iterator[Sample | None]:
    """The samples of a block; None says that a task is over."""
    told = _order_from(order)
    raced = any(task.role == "tune" for task in told.block.tasks)
    for sample in (race.samples if raced else block.samples)(told):
        yield None if isinstance(sample, Finished) else sample


def _environment(device: str) -> Iterator[dict[str, Any]]:
    workload.set_threads(probe.n_cores())
    yield block.environment(device, {})


TASKS: dict[str, Callable[..., Iterator[Any]]] = {
    "block": _block,
    "devices": lambda: iter([workload.devices()]),
    "environment": _environment,
    "share": lambda order, which: throughput.share(_order_from(order), which),
    "selfcheck": lambda **arguments: iter([selfcheck.run(**arguments)]),
}


def _order_from(wire: dict[str, Any]) -> Order:
    return Order(**{**wire, "block": plan.block_from(wire["block"])})


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
