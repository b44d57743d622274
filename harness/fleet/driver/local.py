"""This machine alone, without Ray."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack

from harness.engines.registry import DEFAULT
from harness.fleet.driver import artifacts, survey
from harness.fleet.driver.artifacts import Parcel
from harness.fleet.driver.survey import Absent, Member
from harness.measure import parent
from harness.measure.block import Finished
from harness.measure.wire import Order
from harness.schema import Sample


class Alone:
    """A fleet of one that needs no Ray."""

    address, use_ray = None, False
    absent: Sequence[Absent] = ()

    def __init__(self, engines: Sequence[str] = (DEFAULT,), python: str | None = None) -> None:
        self._engines, self._python = engines, python
        self._members: Sequence[Member] = ()
        self._scratch = ExitStack()

    @property
    def members(self) -> Sequence[Member]:
        """This machine, surveyed once."""
        if not self._members:
            answer = survey.survey(self._engines, self._python)
            self._members = (survey.member(answer, answer["host"], drives=True),)
        return self._members

    def deliver(self, files: Sequence[Parcel]) -> Mapping[str, str]:
        return {self.members[0].name: artifacts.unpack(files, self._scratch.enter_context(artifacts.scratch()))}

    def batches(self, orders: Sequence[Order]) -> Generator[Sequence[Sample]]:
        for order in orders:
            for sample in parent.perform(order):
                if not isinstance(sample, Finished):
                    yield [{**sample, "dispatch": "process"}]

    def close(self) -> None:
        self._scratch.close()
