"""Blocks on this machine, each in fresh processes: an order is sent, and samples are yielded one by one.

The child waits for "next" after every answer, so the parent has finished with a sample (journal, screen) before the
next repetition begins. It ends with its parent: when stdin ends, it exits.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import connection
from typing import Any

from packaging.requirements import Requirement

from harness.engines import environments, overlays, registry
from harness.engines.environments import EngineSpec
from harness.engines.registry import DEFAULT
from harness.errors import CellbenchError
from harness.machine import packages, probe
from harness.machine.accelerators import Device
from harness.measure import greeting, rows, wire
from harness.measure.block import Finished
from harness.measure.greeting import Hello
from harness.measure.share import Done, Failed, Ready, answer_from
from harness.measure.wire import (
    BlockRequest,
    DevicesRequest,
    Order,
    RaceOrder,
    RaceRequest,
    Request,
    ShareRequest,
    ThroughputOrder,
)
from harness.plan import estimate
from harness.plan.cases import Task
from harness.schema import Sample

DEATH_S = 60.0  # after SIGKILL; releasing the memory of a GPU takes seconds
ANSWER_S = 120.0  # importing torch and a first kernel take seconds, minutes on a machine that swaps


def devices(engine: str = DEFAULT, python: str | None = None) -> list[Device]:
    """The devices of this machine that compute for an engine, the CPU last."""
    return [Device(**found) for found in ask(DevicesRequest(), engine, python)]


def ask(request: Request, engine: str = DEFAULT, python: str | None = None) -> Any:
    """Answer a request in a separate process, so that torch stays out of this one; its answer is one JSON value."""
    spec = environments.find(engine, python)
    with _Child(spec, request, environment(probe.n_cores())) as child:
        answers = list(child.answers(lambda: ANSWER_S))
    if child.gave_up:
        raise CellbenchError(
            f"the request for {request.task} took more than {ANSWER_S:g} s", child.error_text or None,
            "a device that hangs blocks its process: restart its driver or the machine",
        )  # fmt: skip
    if not answers:
        raise CellbenchError(
            f"{engine} could not be started for {request.task}", f"{spec.where}: {_last_line(child)}",
            "run the checks: cellbench doctor",
        )  # fmt: skip
    return answers[0]


def version(spec: EngineSpec) -> str | None:
    """The engine's version in its environment; CellbenchError where it cannot be measured there."""
    with _Child(spec, DevicesRequest(), environment(1)) as child:
        hello = child.greeting(ANSWER_S)
    if hello is None:
        raise CellbenchError(f"no measuring process can be started in {spec.where}", _last_line(child))
    return hello.engine_version


def _last_line(child: _Child) -> str | None:
    """The last line of a process's output; of a traceback this is the error."""
    return next(reversed(child.error_text.splitlines()), None)


def perform(order: Order) -> Iterator[Sample | Finished]:
    """Run the block and yield its samples, and Finished after the last sample of each task.

    A task that kills its process, or is silent for too long, becomes a row; a new process performs the others.
    """
    if isinstance(order, ThroughputOrder):
        yield _together(order)
        yield Finished()
        return
    spec = environments.find(order.block.engine, order.engine_python)
    left = list(order.block.tasks)

    def patience_s() -> float:
        return estimate.patience_s(order.block, left[0]) if left else ANSWER_S

    while left:
        rest = replace(order, block=replace(order.block, tasks=tuple(left)))
        request = RaceRequest(rest) if isinstance(rest, RaceOrder) else BlockRequest(rest)
        with _Child(spec, request, environment(order.block.threads)) as child:
            for answer in child.answers(patience_s):
                if answer is None:
                    left.pop(0)
                    yield Finished()
                else:
                    yield from_wire(answer)
            waited_s = patience_s()
        for _ in range(len(left) if child.survived else min(len(left), 1)):
            yield from_wire(_lost_process(order, left.pop(0), child, waited_s))
            yield Finished()


def _together(order: ThroughputOrder) -> Sample:
    """Many images in several processes, which all begin when the last one is ready."""
    [task] = order.block.tasks
    spec = environments.find(order.block.engine, order.engine_python)
    patience_s = estimate.patience_s(order.block, task) * order.n_images
    environ = environment(order.block.threads)
    with ExitStack() as stack, ThreadPoolExecutor(order.n_processes) as pool:
        children = [
            stack.enter_context(_Child(spec, ShareRequest(order, number), environ))
            for number in range(order.n_processes)
        ]
        talks = [child.answers(lambda: patience_s) for child in children]
        answers = [[answer_from(each) for each in pool.map(lambda talk: next(talk, None), talks)] for _ in range(2)]
    ready = [each for each in answers[0] if isinstance(each, Ready)]
    done = [each for each in answers[1] if isinstance(each, Done)]
    columns = ready[0].columns if ready else {}
    counts = {"n_images": order.n_images, "n_processes": order.n_processes, "n_in_flight": order.n_in_flight}
    row = rows.row_of(rows.base_columns(order), task) | columns | counts
    if failed := [each for each in (*answers[0], *answers[1]) if isinstance(each, Failed)]:
        first = failed[0]
        return from_wire(rows.bad(row, order.block.index, first.status, first.error_type, first.text))
    if lost := [child for child, answer in zip(children, answers[1], strict=True) if answer is None]:
        lost_row = _lost_process(order, task, lost[0], patience_s)
        return from_wire(lost_row | columns | counts | {"repetition": order.block.index})
    elapsed_s = max(each.end_s for each in done) - min(each.begin_s for each in done)
    masks = dict(pair for each in done for pair in zip(each.indices, each.masks, strict=True))
    row |= {
        "phase": "call", "repetition": order.block.index, "elapsed_s": elapsed_s,
        "started_at": min(each.at_unix_s for each in done), "status": "ok",
        "n_cells": sum(sum(each.n_cells) for each in done),
        "mask_sha256": hashlib.sha256("".join(masks[i] for i in sorted(masks)).encode()).hexdigest(),
        "environment": json.dumps(ready[0].environment),
    }  # fmt: skip
    return from_wire(rows.identified(row))


def environment(threads: int) -> dict[str, str]:
    """The child's environment variables: the number of threads, in place of Ray's OMP_NUM_THREADS=1."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    ours = {f"{name}_NUM_THREADS": str(threads) for name in names}
    ours["VECLIB_MAXIMUM_THREADS"] = str(threads)  # Apple's Accelerate
    return {**os.environ, **ours}


def _lost_process(order: Order, task: Task, child: _Child, waited_s: float) -> Sample:
    """The sample of a task whose process died or was given up; written by the parent."""
    row = rows.row_of(rows.base_columns(order), task)
    if child.survived:
        text = "its process does not die, so its device hangs: nothing more can be measured; restart the machine"
        return rows.bad(row, 0, "timeout", "TimeoutError", f"{text}. {child.error_text}".strip())
    if child.gave_up:
        text = f"no sign of life for {waited_s:.0f} s; its process was killed. {child.error_text}".strip()
        return rows.bad(row, 0, "timeout", "TimeoutError", text)
    return rows.bad(row, 0, *_death(child))


def _death(child: _Child) -> tuple[str, str, str]:
    """Status, name and text of a process's death. This program sends SIGKILL only after a timeout."""
    if child.returncode == -signal.SIGKILL:
        text = "it was killed by SIGKILL, which the kernel sends when memory is full"
        return "oom_host", "SIGKILL", f"{text}. {child.error_text}".strip()
    name = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit {child.returncode}"
    return "crash", name, child.error_text


def from_wire(row: Sample) -> Sample:
    """The sample with its time as the store needs it; between processes it is a number."""
    return {**row, "started_at": datetime.fromtimestamp(row["started_at"], UTC)}


class _Child:
    """A process that performs one task, in a session of its own; it ends with the block."""

    def __init__(self, spec: EngineSpec, request: Request, env: dict[str, str]) -> None:
        self._spec, self._request, self._env = spec, request, env
        self.returncode = 0
        self.error_text = ""
        self.gave_up = False
        self.survived = False
        self._unread = b""

    def __enter__(self) -> _Child:
        # Its output goes to a file: a full pipe without a reader would stop it.
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        try:
            self._process = subprocess.Popen(
                environments.command(self._spec.python, "harness.measure.child", self._spec.name),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                env={**self._env, **self._spec.environ()}, text=True, start_new_session=True,
            )  # fmt: skip
        except OSError as error:  # it is not a program for this machine
            self._errors.close()
            what = f"{self._spec.python} cannot be started: {error.strerror}"
            raise CellbenchError(what, self._spec.where, "name an interpreter of Python") from error
        assert self._process.stdin is not None and self._process.stdout is not None  # because of PIPE
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        try:
            self.returncode = self._process.wait(DEATH_S)
        except subprocess.TimeoutExpired:  # a driver that hangs keeps it from dying
            self.survived = True
        with suppress(BrokenPipeError):  # it died before it read its input
            self._stdin.close()
        self._stdout.close()
        self._errors.seek(0)
        self.error_text = self._errors.read()[-2000:].strip()
        self._errors.close()

    def answers(self, patience_s: Callable[[], float]) -> Iterator[Any]:
        """The child's answers, one value at a time; it continues when the next one is requested.

        patience_s: called before each value, returns the time limit in s; a child that takes longer is killed.
        CellbenchError where this program cannot work with the child.
        """
        with suppress(BrokenPipeError):  # it died; its exit code is the reason
            if self.greeting(max(ANSWER_S, patience_s())) is None:
                return
            self._send(wire.request_line(self._request))
            while (line := self._line(patience_s())).endswith("\n"):  # else killed in the middle of a line
                yield json.loads(line)
                self._send("next")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(DEATH_S)

    def greeting(self, limit_s: float) -> Hello | None:
        """The child's greeting; None where it died. CellbenchError where this program cannot work with it."""
        line = self._line(limit_s)
        return _checked_peer(self._spec, line) if line.endswith("\n") else None

    def _line(self, limit_s: float) -> str:
        """The child's next output, up to the end of the line or of its life."""
        pipe, end_s = self._stdout.fileno(), time.monotonic() + limit_s
        while b"\n" not in self._unread:
            # Not a blocking read: a process that cannot be killed would block this one too.
            if not connection.wait([pipe], max(end_s - time.monotonic(), 0)):
                self.gave_up = True
                self._kill()
                return ""
            if not (part := os.read(pipe, 1 << 16)):
                return self._unread.decode()
            self._unread += part
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode() + "\n"

    def _kill(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _send(self, text: str) -> None:
        self._stdin.write(text + "\n")
        self._stdin.flush()


def _checked_peer(spec: EngineSpec, line: str) -> Hello:
    """Raise CellbenchError for a child of another version of this program, or one that lacks a package."""
    engine = registry.engine(spec.name)
    try:
        hello = greeting.read(line)
    except ValueError as error:
        what = f"the process there is not a measuring process of cellbench: {line.strip()[:80]!r}"
        raise CellbenchError(what, spec.where, "install this version of cellbench there") from error
    if hello.wire != greeting.VERSION:
        what = f"cellbench {hello.harness} there uses version {hello.wire} of the protocol, not {greeting.VERSION}"
        raise CellbenchError(what, spec.where, "install this version of cellbench there")
    if hello.hidden:
        raise CellbenchError(f"packages are hidden: {hello.hidden}", spec.where, packages.FIX)
    if hello.lacks:
        raise CellbenchError(f"{hello.lacks} is missing there", spec.where, "install this version of cellbench there")
    if hello.engine_version is None:
        raise CellbenchError(f"{engine.name} is not installed there", spec.where, overlays.how_to_install(engine))
    if engine.requirement and not Requirement(engine.requirement).specifier.contains(hello.engine_version, True):
        what = f"{engine.name} needs {engine.requirement}, but {hello.engine_version} is installed there"
        raise CellbenchError(what, spec.where, overlays.how_to_install(engine))
    return hello
