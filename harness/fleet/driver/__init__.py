"""The nodes to measure on: this machine alone, or the nodes of a Ray cluster, side by side.

with fleet.opened(address, use_ray) as here:    Alone or Cluster
    here.members                                what each node has: devices, threads, versions
    here.deliver(parcels)                       image and weights, once to each node
    here.samples(orders)                        blocks performed, each sample as it is made
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from harness.engines.registry import DEFAULT
from harness.fleet.driver.artifacts import Parcel
from harness.fleet.driver.survey import Absent, Member
from harness.measure.wire import Order
from harness.schema import Sample

Say = Callable[[str], None]


class Fleet(Protocol):
    """What measures: one node or many."""

    @property
    def address(self) -> str | None:
        """Of its Ray, to come back to; None for this machine alone."""
        ...

    @property
    def use_ray(self) -> bool:
        """Whether the work goes through Ray."""
        ...

    @property
    def members(self) -> Sequence[Member]:
        """The nodes that will measure."""
        ...

    @property
    def absent(self) -> Sequence[Absent]:
        """The nodes that should have measured and cannot."""
        ...

    def deliver(self, files: Sequence[Parcel]) -> Mapping[str, str]:
        """Bring the files to every node; returns the folder they lie in there, by the node's name."""
        ...

    def samples(self, orders: Sequence[Order]) -> Generator[Sample]:
        """Perform every order on its node, and yield each sample as it is made.

        A node's next repetition begins only when the sample before it has been dealt with. Nothing is left running
        when the iterator ends or is closed.
        """
        ...

    def close(self) -> None:
        """Let go of the nodes."""
        ...


@contextmanager
def opened(
    address: str | None = None,
    use_ray: bool = True,
    nodes: Sequence[str] = (),
    say: Say = lambda _: None,
    n_awaited: int = 0,
    engines: Sequence[str] = (DEFAULT,),
    python: str | None = None,
) -> Iterator[Fleet]:
    """This machine without Ray, or a Ray started for it, or the cluster at an address: auto or HOST:PORT.

    nodes: names to keep to; all if empty. say: told what is being waited for. n_awaited: nodes to wait for. engines:
    what the nodes are to measure, with an interpreter of the user's own if one is given. Raises FleetUnreachableError.
    """
    if use_ray:
        from harness.fleet.driver import cluster

        found: Fleet = cluster.join(address, nodes, say, n_awaited=n_awaited, engines=engines, python=python)
    else:
        from harness.fleet.driver.local import Alone

        found = Alone(engines, python)
    with closing(found):
        yield found
