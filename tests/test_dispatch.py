"""The loop over many nodes and its journal: random orders of answers, lost nodes, torn files, operation counts."""

import io
import random
import sys
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from pyarrow import parquet
from rich.console import Console

from harness.fleet.driver import scheduler
from harness.measure.wire import Order
from harness.schema import Sample
from harness.store import Store, journal
from harness.store.journal import Journal
from harness.terminal import progress
from tests.conftest import REPOSITORY, case, make_sample
from tests.test_fleet import Actor, Ray, on
from tests.test_progress import case_rows, prepared

FATES = {None: ("", ""), "lost": ("node_lost", "RayError"), "failed": ("crash", "RayTaskError"),
         "silent": ("node_lost", "GetTimeoutError")}  # fmt: skip


def key(sample: Sample) -> tuple[str, int, str]:
    return sample["node"], sample["block"], sample["crop"]


# ---------------------------------------------------------------- random orders of answers


class World:
    """Nodes that answer in a random order. Time passes only while the driver waits for an answer."""

    def __init__(self, seed: int) -> None:
        self.rng, self.now_s = random.Random(seed), 0.0
        self.asked: list[Node] = []
        self.late: list[Node] = []
        self.on_disk: set[tuple[str, int, str]] = set()

    def go_on(self) -> None:
        """Some nodes answer, one of them perhaps too late; or all do that can, and the others' time is up."""
        assert self.asked, "the driver waits for nobody"
        able, silent = ([node for node in self.asked if node.is_silent == which] for which in (False, True))
        if is_up := bool(silent) and (not able or self.rng.random() < 0.2):
            self.now_s += 1e6
            self.late += silent
        for node in able if is_up else self.rng.sample(able, self.rng.randint(1, len(able))):
            node.answer()
            self.asked.remove(node)
        if is_up:
            self.asked = []
        elif self.late and self.rng.random() < 0.5:
            late = self.late.pop()
            late.asked.set_result(next(late._answers))


class Node(Actor):
    """A node whose fate comes after some answers. It checks each request."""

    def __init__(self, name: str, world: World, fate: str | None, after: int) -> None:
        error = getattr(Ray.exceptions, FATES[fate][1] or "RayError")("why")
        super().__init__(name, error, after if fate else 999)
        self.world, self.fate = world, fate
        self.given: list[Any] = []

    @property
    def is_silent(self) -> bool:
        return self.fate == "silent" and self._left < 0

    def take(self) -> None:
        assert self not in self.world.asked, "two requests at a time"
        assert {key(sample) for kind, sample in self.given if kind == "sample"} <= self.world.on_disk
        self.world.asked.append(self)

    def answer(self) -> None:
        super().answer()
        if not self.asked.exception():
            self.given.append(self.asked.result())


class Arrivals(SimpleQueue):
    """The driver's queue; the world goes on while it is empty."""

    world: World

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        assert timeout
        if self.empty():
            self.world.go_on()
        return super().get(block=False)


@pytest.mark.parametrize("seed", range(40))
def test_no_order_of_answers_loses_or_repeats_a_sample(
    order: Callable[..., Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    world = World(seed)
    rng, flushed = world.rng, []
    monkeypatch.setattr(scheduler, "SimpleQueue", type("Mine", (Arrivals,), {"world": world}))
    monkeypatch.setattr(scheduler, "time", SimpleNamespace(monotonic=lambda: world.now_s))
    monkeypatch.setattr(journal.os, "fsync", flushed.append)
    fates = {f"n{i}": rng.choice([None, None, *FATES]) for i in range(rng.randint(1, 9))}
    nodes = {name: Node(name, world, fate, rng.randint(0, 8)) for name, fate in fates.items()}
    made = order(*map(case, (32, 64, 96)[: rng.randint(1, 3)]))
    todo = [on(name, made, index) for name in nodes for index in range(rng.randint(0, 3))]
    released: list[str] = []
    written, n_batches = Journal(tmp_path / "x.arrows"), 0
    for batch in scheduler.batches(Ray(), nodes, todo, {name: {} for name in nodes}, released.append):
        assert batch
        written.append(batch)
        world.on_disk |= set(map(key, batch))
        n_batches += 1
    written.close()
    assert len(flushed) == 1 + n_batches  # and one for the schema
    assert sorted(released) == sorted(nodes)
    rows = journal.read(tmp_path / "x.arrows").to_pylist()
    for name, node in nodes.items():
        tasks = [(name, each.block.index, task.case.crop) for each in todo if each.block.node == name
                 for task in each.block.tasks]  # fmt: skip
        mine = [row for row in rows if row["node"] == name]
        good = [key(row) for row in mine if row["status"] == "ok"]
        given = [key(sample) for kind, sample in node.given if kind == "sample"]
        assert good == given[: len(good)] == tasks[: len(good)]
        status, error = FATES[node.fate]
        bad = [row for row in mine if row["status"] != "ok"]
        assert {(row["status"], row["error_type"]) for row in bad} <= {(status, error)}
        # A node that is lost between the last sample of a task and its end leaves a row about that task as well.
        n_finished = len(tasks) - len(bad)
        assert [key(row) for row in bad] == tasks[n_finished:]
        assert len(good) - n_finished in (0, 1)


# ---------------------------------------------------------------- torn files


@pytest.mark.parametrize("seed", range(10))
def test_a_batch_is_there_whole_or_not_at_all(tmp_path: Path, seed: int) -> None:
    rng, n, ends = random.Random(seed), 0, [(0, 0)]
    written = Journal(tmp_path / "x.arrows")
    for size in rng.choices([1, 2, 5, 60], k=rng.randint(1, 9)):
        written.append([make_sample(repetition=n + i) for i in range(size)])
        n += size
        ends.append((written.path.stat().st_size, n))
    written.close()
    content = written.path.read_bytes()
    for cut in [*(end + d for end, _ in ends[1:] for d in (-1, 0)), *rng.choices(range(len(content)), k=20)]:
        (tmp_path / "torn.arrows").write_bytes(content[:cut])
        found = journal.read(tmp_path / "torn.arrows")["repetition"].to_pylist()
        assert found == list(range(max(n for end, n in ends if end <= cut))), cut


@pytest.mark.parametrize("seed", range(3))
def test_the_samples_of_many_nodes_become_a_file_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(journal.os, "fsync", lambda _: None)
    rng = random.Random(seed)
    rows = [make_sample(node=f"n{rng.randrange(40)}", repetition=i) for i in range(400)]
    store = Store.make(tmp_path)
    with store.journal(rows[0]["run_id"]) as written:
        while rows:
            batch, rows = rows[: (n := rng.randint(1, 30))], rows[n:]
            written.append(batch)
    found: list[tuple[str, int]] = []
    for file in store.files():
        nodes, numbers = (parquet.read_table(file)[name].to_pylist() for name in ("node", "repetition"))
        assert len(set(nodes)) == 1
        assert numbers == sorted(numbers)  # as they arrived
        found += zip(nodes, numbers, strict=True)
    assert sorted(number for _, number in found) == list(range(400))
    assert len(store.files()) == len({node for node, _ in found})


# ---------------------------------------------------------------- operations


def operations(function: Callable[[], object]) -> int:
    """The number of bytecode instructions of this program that a call executes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(str(REPOSITORY / "harness")):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(None)
    return count


def dispatched(n_nodes: int, made: Order, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    world = World(0)
    monkeypatch.setattr(world, "go_on", lambda: world.asked.pop(0).answer())
    monkeypatch.setattr(scheduler, "SimpleQueue", type("Mine", (Arrivals,), {"world": world}))
    monkeypatch.setattr(scheduler, "time", SimpleNamespace(monotonic=lambda: 1.0))
    nodes = {f"n{i}": Node(f"n{i}", world, None, 0) for i in range(n_nodes)}
    todo = [on(name, made) for name in nodes]

    def run() -> None:
        for batch in scheduler.batches(Ray(), nodes, todo, {name: {} for name in nodes}):
            world.on_disk |= set(map(key, batch))

    return run


def displayed(n_nodes: int, is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: 1.0))
    names = [f"n{i}" for i in range(n_nodes)]
    answer = prepared(*names)
    screen = progress.Progress(answer, Console(file=io.StringIO(), width=120, height=20, force_terminal=is_terminal))
    rows = [row for name in names for row in case_rows(answer, name, 1.0)]
    screen.sample(rows[0])  # the plan of all nodes, once

    def run() -> None:
        for row in rows:
            screen.sample(row)

    return run


@pytest.mark.parametrize("what", ["dispatch", "lines", "screen"])
def test_the_cost_of_a_sample_does_not_grow_with_the_number_of_nodes(
    order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def per_node(n_nodes: int) -> float:
        if what == "dispatch":
            function = dispatched(n_nodes, order(case(32), case(64)), monkeypatch)
        else:
            function = displayed(n_nodes, what == "screen", monkeypatch)
        return operations(function) / n_nodes

    assert per_node(64) < 1.2 * per_node(8)


def test_a_screen_of_many_nodes_shows_those_that_end_last(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, out = prepared(*(f"n{i}" for i in range(30))), io.StringIO()
    with progress.Progress(answer, Console(file=out, width=100, height=10, force_terminal=True)) as screen:
        screen.sample(case_rows(answer, "n7", 9.0)[0])
    shown = [line for line in out.getvalue().splitlines() if line.strip()]
    assert sum(" starting" in line or " s left" in line for line in shown) >= 6
    assert any("24 other nodes" in line for line in shown)
