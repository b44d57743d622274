"""The nodes to measure on: this machine alone, or the nodes of a Ray cluster at the same time.

with fleet.opened(address, use_ray) as here:    Alone or Cluster
    here.members                                the devices, threads and versions of each node
    here.deliver(parcels)                       image and weights, once to each node
    here.batches(orders)                        blocks performed, samples as they arrive
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
    """The nodes that measure, one or many."""

    @property
    def address(self) -> str | None:
        """The address of its Ray, for resuming; None for this machine alone."""
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
        """Send the files to every node; returns the folder with them, by the node's name."""
        ...

    def batches(self, orders: Sequence[Order]) -> Generator[Sequence[Sample]]:
        """Perform every order on its node, and yield the samples of all nodes as they arrive, one or more at a time.

        A node's next repetition begins only when the consumer has finished with the batch that has the sample before
        it. Nothing is left running when the iterator ends or is closed.
        """
        ...

    def close(self) -> None:
        """Release the nodes."""
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
    rent: Sequence[str] = (),
) -> Iterator[Fleet]:
    """This machine without Ray, or a Ray started for it, or the cluster at an address: auto or HOST:PORT.

    nodes: names of the nodes to use; all if empty. `say` receives progress messages. n_awaited: number of nodes to wait
    for. engines: the engines to measure, with the user's own interpreter if given. rent: node types that the cluster's
    autoscaler starts for this run, instead of the nodes that are there. Raises FleetUnreachableError.
    """
    if use_ray:
        from harness.fleet.driver import cluster

        found: Fleet = cluster.join(address, nodes, say, n_awaited=n_awaited, engines=engines, python=python, rent=rent)
    else:
        from harness.fleet.driver.local import Alone

        found = Alone(engines, python)
    with closing(found):
        yield found
