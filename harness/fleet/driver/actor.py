"""The actor on a node inside Ray: it passes on the answers of the node's worker, one for each request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.fleet.driver import artifacts, survey
from harness.fleet.driver.artifacts import Parcel
from harness.measure import parent
from harness.measure.block import Finished
from harness.measure.wire import Order
from harness.schema import Sample

Perform = Callable[[Order], Iterator[Sample | Finished]]
# ("sample", the sample), ("finished", None) after a task's last, ("end", None) after a block's last
Answer = tuple[str, Sample | None]


class Relay:
    """The actor that holds a node's one bench slot for a run. Only plain values cross the wire."""

    def __init__(self, perform: Perform = parent.perform) -> None:
        self._perform = perform
        self._answers: Iterator[Sample | Finished] = iter(())

    def survey(self, engines: Sequence[str], python: str | None) -> dict[str, Any]:
        return survey.survey(engines, python)

    def find(self, label: str, sums: dict[str, str]) -> str | None:
        return artifacts.find(label, sums)

    def unpack(self, files: list[tuple[str, str, bytes]]) -> str:
        return artifacts.unpack([Parcel(*each) for each in files])

    def begin(self, order: Order) -> Answer:
        """Start a block and return its first answer."""
        self._answers = self._perform(order)
        return self.next()

    def next(self) -> Answer:
        for answer in self._answers:
            return ("finished", None) if isinstance(answer, Finished) else ("sample", answer)
        return ("end", None)
