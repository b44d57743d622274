"""One block on this machine, in a fresh process: an order goes in, samples come out one by one.

    parent: perform(order) ──stdin: order, then one line per "go on"──▶ child: python -m harness.worker
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
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from harness import images, probe, schema, timing, workload
from harness.errors import CellbenchError
from harness.plan import Block, Case, Device
from harness.schema import Sample

PROTOCOL_VERSION = 1


@dataclass(frozen=True)
class Order:
    """Everything that a worker needs to know to perform one block."""

    block: Block
    pixels_file: str  # the whole image as .npy
    pixels_sha256: str
    weights_folder: str
    threads: int
    constants: dict[str, Any]  # columns that are the same in every sample of the run


def devices() -> list[dict[str, Any]]:
    """The devices of this machine that compute, found in a process of its own so that torch stays out of ours."""
    with _Child({"task": "devices"}, os.environ.copy()) as child:
        lines = list(child.lines())
    if not lines:
        raise CellbenchError(
            "torch could not be started to look for devices", child.error_text, "try: python -c 'import torch'"
        )
    return lines[0]


def perform(order: Order) -> Iterator[Sample]:
    """Run the block and yield its samples; a case that kills its process becomes a row, the others go on."""
    cases = order.block.cases
    while cases:
        left = list(cases)
        rest = replace(order, block=replace(order.block, cases=cases))
        with _Child({"task": "block", "order": asdict(rest)}, environment(order)) as child:
            for line in child.lines():
                left = left[line["n_finished"] :]
                yield _from_wire(line["sample"])
        if not left:
            return
        yield _from_wire(_crash_row(order, left[0], child))
        cases = tuple(left[1:])


def environment(order: Order) -> dict[str, str]:
    """The child's environment: threads by us, not by Ray's OMP_NUM_THREADS=1; weights where cellpose looks."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    threads = {f"{name}_NUM_THREADS": str(order.threads) for name in names}
    threads["VECLIB_MAXIMUM_THREADS"] = str(order.threads)  # Apple's Accelerate
    return {**os.environ, **threads, "CELLPOSE_LOCAL_MODELS_PATH": order.weights_folder}


# ---------------------------------------------------------------- in the child


def block_samples(order: Order) -> Iterator[tuple[Sample, int]]:
    """Measure one block in this very process; yields each sample and how many cases it finishes (0 or 1)."""
    base = _base(order)
    try:
        model, image, sync = yield from _prepare(base, order)
    except Exception as error:  # nothing can be timed, and each case says so
        for case in order.block.cases:
            yield _failed({**base, **asdict(case)}, "cold", 0, error), 1
        return
    for position, case in enumerate(order.block.cases):
        yield from _measure({**base, **asdict(case), "position": position}, order, case, image, model, sync)


def _prepare(base: Sample, order: Order) -> Iterator[tuple[Sample, int]]:
    """The cold phases, each a sample: import, model load, first call; returns what the cases need."""
    device = order.block.device.id
    [imported] = timing.repetitions("cold", 1, workload.import_cellpose, lambda: None)
    base |= workload.set_threads(order.threads)
    base["sync"], sync = workload.synchroniser(device)
    yield _row(base, imported, "import"), 0

    # The first contact makes an accelerator's context, which must not hide in front of the next clock.
    [started] = timing.repetitions("cold", 1, sync, lambda: None)
    yield _row(base, started, "device_start"), 0

    [loaded] = timing.repetitions("cold", 1, lambda: workload.load(device), sync)
    model = loaded.outcome
    base["diam_labels_px"] = workload.diam_labels_px(model)
    yield _row(base, loaded, "model_load"), 0

    image = np.load(order.pixels_file, allow_pickle=False)
    if images.hash_pixels(image) != order.pixels_sha256:
        raise CellbenchError("the image changed after the run was planned", order.pixels_file, "run again")
    smallest = min(order.block.cases, key=lambda case: case.height_px * case.width_px)
    pixels = _pixels(image, smallest)
    with workload.OutputWitness(model) as witness:
        [called] = timing.repetitions("cold", 1, lambda: workload.segment(model, pixels), sync)
    base["device_used"] = workload.prove_device(model, device, witness.seen)
    yield _row({**base, **asdict(smallest), "protocol": "standard"}, called, "call"), 0
    return model, image, sync


def _measure(
    row: Sample, order: Order, case: Case, image: np.ndarray, model: Any, sync: Callable[[], None]
) -> Iterator[tuple[Sample, int]]:
    """Warm-ups, then timed repetitions of one case; the first failure is its last sample."""
    device, pixels = order.block.device.id, _pixels(image, case)

    def standard() -> workload.Segmentation:
        return workload.segment(model, pixels)

    def article() -> workload.Segmentation:
        return workload.segment(workload.load(device), pixels)

    work = {"standard": standard, "article": article}[case.protocol]
    stages = (("warmup", order.block.warmups), ("timed", order.block.repeats))
    for role, n in stages:
        index = -1
        try:
            for index, done in enumerate(timing.repetitions(role, n, work, sync)):
                workload.prove_device(model, device)
                last = role == "timed" and index == n - 1
                yield _row({**row, "stop_reason": "fixed_n"}, done, "call"), int(last)
        except Exception as error:  # whatever it is, it is this case's result, and the other cases go on
            yield _failed(row, role, index + 1, error), 1
            return


def _base(order: Order) -> Sample:
    """The columns that every sample of the block shares."""
    block = order.block
    return {
        **probe.facts(),
        **order.constants,
        "block": block.index,
        "backend": block.device.backend,
        "device": block.device.id,
        "device_name": block.device.name,
        "batch_size": workload.BATCH_SIZE,
        "diameter_asked_px": workload.DIAMETER_PX,
        "protocol_version": PROTOCOL_VERSION,
    }


def _pixels(image: np.ndarray, case: Case) -> np.ndarray:
    return images.crop(image, case.crop if case.crop == "full" else int(case.crop))


def _row(row: Sample, done: timing.Repetition[Any], phase: str) -> Sample:
    """The sample of one good repetition."""
    found = done.outcome if isinstance(done.outcome, workload.Segmentation) else None
    check = {"n_cells": found.n_cells, "diameter_px": found.diameter_px, "mask_sha256": found.sha256} if found else {}
    return _identified(
        {
            **row,
            **check,
            "role": done.role,
            "phase": phase,
            "repetition": done.index,
            "started_at": done.started_at_unix_s,
            "elapsed_s": done.elapsed_s,
            "status": "ok",
        }
    )


def _failed(row: Sample, role: str, repetition: int, error: BaseException) -> Sample:
    """The sample of a repetition that raised."""
    return _ended_badly(row, role, repetition, workload.failure(error), type(error).__name__, str(error))


def _crash_row(order: Order, case: Case, child: _Child) -> Sample:
    """The sample of a case whose process died; written by the parent."""
    row = {**_base(order), **asdict(case), "openmp_threads": str(order.threads)}
    return _ended_badly(row, "timed", 0, "crash", _exit_name(child.returncode), child.error_text)


def _ended_badly(row: Sample, role: str, repetition: int, status: str, kind: str, text: str) -> Sample:
    failed = {"role": role, "phase": "call", "repetition": repetition, "started_at": time.time(), "status": status}
    return _identified({**row, **failed, "error_type": kind, "error_message": text[-2000:]})


def _identified(row: Sample) -> Sample:
    return {**row, "case_id": schema.digest(row, schema.CASE), "series_key": schema.digest(row, schema.SERIES)}


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
            [sys.executable, "-m", "harness.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env=self._env, text=True, start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self.returncode = self._process.wait()
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


def _order_from(wire: dict[str, Any]) -> Order:
    block = wire["block"]
    cases = tuple(Case(**case) for case in block["cases"])
    return Order(**{**wire, "block": Block(**{**block, "device": Device(**block["device"]), "cases": cases})})


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
    task = json.loads(told.get())
    if task["task"] == "devices":
        values: Iterator[Any] = iter([workload.devices()])
    else:
        values = ({"sample": row, "n_finished": n} for row, n in block_samples(_order_from(task["order"])))
    for value in values:
        answers.write(json.dumps(value) + "\n")
        answers.flush()
        told.get()


if __name__ == "__main__":
    main()
