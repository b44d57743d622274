"""The facts that a node reports before anything is measured on it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.engines import environments, registry
from harness.engines.registry import DEFAULT
from harness.machine import probe
from harness.machine.accelerators import Device
from harness.machine.versions import Difference, Versions, differences, versions
from harness.measure import parent
from harness.plan.cases import Node


@dataclass(frozen=True)
class Member:
    """A node that will measure.

    facts: columns for the rows that are written about it after it is lost. lacking: backends of its tags without a
    device that computes.
    """

    node: Node
    facts: Mapping[str, Any]
    versions: Versions
    drives: bool = False  # whether the command that drives the run runs there, too
    lacking: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.node.name

    def differs(self, here: Versions) -> tuple[Difference, ...]:
        """The software that has another version than on the machine that drives the run."""
        return differences(here, self.versions)


@dataclass(frozen=True)
class Absent:
    """A node that should have measured and cannot."""

    name: str
    why: str


def survey(engines: Sequence[str] = (DEFAULT,), python: str | None = None) -> dict[str, Any]:
    """This machine's answer, in plain values: host name, devices for every engine, threads, versions, facts.

    python: the user's own interpreter for the engines.
    """
    first, *others = (parent.devices(name, python) for name in engines)
    devices = [device for device in first if all(device.id in {each.id for each in found} for found in others)]
    return {
        "host": socket.gethostname(),
        "devices": [asdict(device) for device in devices],
        "threads": probe.n_cores(),
        "threads_max": probe.n_hardware_threads(),
        "versions": versions_of(engines, python),
        "facts": probe.facts(),
    }


def versions_of(engines: Sequence[str] = (DEFAULT,), python: str | None = None) -> Versions:
    """Versions of this machine's software and of these engines, by name; python: their interpreter."""

    def version(name: str) -> str | None:
        return registry.version(name) if python is None else parent.version(environments.find(name, python))

    return {**{name: version(name) for name in engines}, **versions()}


def member(
    answer: dict[str, Any], name: str, promised: Mapping[str, int] | None = None, drives: bool = False
) -> Member:
    """A node from its answer; a tagged device that does not compute stays in, and its cases fail by name."""
    devices = [Device(**device) for device in answer["devices"]]
    lacking = []
    for backend, n_promised in (promised or {}).items():
        have = {device.index for device in devices if device.backend == backend}
        missing = [index for index in range(n_promised) if index not in have]
        devices += [Device(backend, index, "listed in its tags, but not found") for index in missing]
        lacking += [backend] if missing else []
    node = Node(name, tuple(devices), answer["threads"], answer.get("threads_max"))
    return Member(node, {**answer["facts"], "node": name}, answer["versions"], drives, tuple(lacking))
