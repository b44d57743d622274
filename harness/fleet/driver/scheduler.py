"""Blocks on many nodes at the same time: every node performs its own, and samples are taken as they arrive.

Each node has one request in flight at any time, so its next repetition begins only when the consumer has finished with
the sample before. Nothing is tried again: a repeated measurement is another one, and only a resumed run repeats it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from harness.fleet.driver.actor import Answer
from harness.measure import parent, rows
from harness.measure.wire import Order
from harness.plan import estimate
from harness.plan.cases import Task
from harness.schema import Sample

TICK_S = 1.0
GRACE_S = 180.0  # beyond the worker's own patience, which ends first while its node lives


def batches(
    ray: Any,
    relays: Mapping[str, Any],
    orders: Sequence[Order],
    facts: Mapping[str, Mapping[str, Any]],
    release: Callable[[str], None] = lambda _: None,
) -> Generator[list[Sample]]:
    """Perform the orders through their nodes' relays; samples that have arrived together are one batch.

    The next requests are sent when the consumer has finished with the batch. The remaining tasks of a lost node become
    rows.

    relays: actors by node. facts: columns by node, for rows about a node that is lost. release: called with the name of
    each node that has no work left.
    """
    of_node: dict[str, list[Order]] = {name: [] for name in relays}
    for order in orders:
        of_node[order.block.node].append(order)
    stamp = {"dispatch": "ray", "ray_version": ray.__version__}
    waiting: dict[Future[Answer], _Lane] = {}
    arrived: SimpleQueue[Future[Answer]] = SimpleQueue()

    def ask(lane: _Lane) -> None:
        if (ref := lane.ask()) is None:
            release(lane.name)
        else:
            answer = ref.future()  # its cost does not depend on the number of nodes; that of ray.wait does
            waiting[answer] = lane
            answer.add_done_callback(arrived.put)

    for name, relay in relays.items():
        ask(_Lane(name, relay, of_node[name], facts[name]))
    look_s = 0.0  # when to look for late nodes
    while waiting:
        ready = [(waiting.pop(answer), answer) for answer in _taken(arrived) if answer in waiting]
        if time.monotonic() > look_s:
            late = [answer for answer, lane in waiting.items() if time.monotonic() > lane.end_s]
            ready += [(waiting.pop(answer), _expired(ray)) for answer in late]
            look_s = time.monotonic() + TICK_S
        batch: list[Sample] = []
        for lane, answer in ready:
            try:
                kind, sample = answer.result()
            except ray.exceptions.RayError as error:
                died = not isinstance(error, ray.exceptions.RayTaskError)
                batch += ({**row, **stamp} for row in lane.lost(error, "node_lost" if died else "crash"))
            else:
                batch += [{**sample, **stamp}] if sample is not None else []
                lane.advance(kind)
        if batch:
            yield batch
        for lane, _ in ready:
            ask(lane)


def _taken(arrived: SimpleQueue[Future[Answer]]) -> list[Future[Answer]]:
    """The answers that have arrived, after a wait for the first one; none after TICK_S."""
    taken = []
    with suppress(Empty):
        taken.append(arrived.get(timeout=TICK_S))
        while True:
            taken.append(arrived.get_nowait())
    return taken


def _expired(ray: Any) -> Future[Answer]:
    """The answer in place of one that comes too late."""
    answer: Future[Answer] = Future()
    answer.set_exception(ray.exceptions.GetTimeoutError("no answer in the time that the node had"))
    return answer


class _Lane:
    """One node's progress through its orders."""

    def __init__(self, name: str, relay: Any, orders: Sequence[Order], facts: Mapping[str, Any]) -> None:
        self.name, self._relay, self._orders, self._facts = name, relay, deque(orders), facts
        self._left: deque[Task] = deque()  # tasks of the block that has begun
        self._begun = False
        self._patience_s = self.end_s = 0.0  # for one answer of the present task; when to give the node up

    def ask(self) -> Any:
        """Send the next request to the relay; None when everything is done."""
        if not self._orders:
            return None
        order = self._orders[0]
        if not self._begun:
            self._begun, self._left = True, deque(order.block.tasks)
            self._expect()
            ref = self._relay.begin.remote(order)
        else:
            ref = self._relay.next.remote()
        self.end_s = time.monotonic() + self._patience_s + GRACE_S
        return ref

    def _expect(self) -> None:
        """Set the patience for the present task."""
        block = self._orders[0].block
        self._patience_s = estimate.patience_s(block, self._left[0]) if self._left else 0.0

    def advance(self, kind: str) -> None:
        """Continue after an answer."""
        if kind == "finished":
            self._left.popleft()
            self._expect()
        elif kind == "end":
            self._orders.popleft()
            self._begun = False

    def lost(self, error: BaseException, status: str) -> Iterator[Sample]:
        """Rows for all remaining tasks of the node."""
        why = reason(error)
        for order in self._orders:
            base = rows.base_columns(order, dict(self._facts))
            for task in self._left if self._begun else order.block.tasks:
                row = rows.bad(rows.row_of(base, task), 0, status, type(error).__name__, why)
                yield parent.from_wire(row)
            self._begun = False
        self._orders.clear()


def reason(error: BaseException) -> str:
    """Ray's reason for the loss of a node or task, in one or two lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:1] + lines[-1:] if len(lines) > 1 else lines)[:500] or type(error).__name__
