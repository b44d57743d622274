"""The facts that a node gives the fleet: its name, the devices that compute there, and their models."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import CellbenchError
from harness.machine.accelerators import ACCELERATORS, Device

BACKENDS = tuple(ACCELERATORS)
ADVICE = f"give some of {', '.join(BACKENDS)}, with a number where there are several devices: cpu,cuda=2"
NAME = "bench/host"  # the label that holds it
SLOT = "bench_slot"  # one on every node: the run that holds it measures, so a node measures one thing at a time


@dataclass(frozen=True)
class Tags:
    """A node's name and how many devices of each backend it has, the accelerators first."""

    name: str
    counts: tuple[tuple[str, int], ...]
    accelerator: str | None = None
    chip: str | None = None

    def resources(self) -> dict[str, int]:
        """Ray's custom resources: whole numbers that work can request."""
        return {SLOT: 1, **{resource(backend): n for backend, n in self.counts}}

    def labels(self) -> dict[str, str]:
        """Ray's labels: words that work can select by, in Kubernetes' syntax."""
        labels = {
            NAME: self.name,
            **{f"bench/backend-{backend}": "1" for backend, _ in self.counts},
            "bench/accelerator": slug(self.accelerator or ""),
            "bench/chip": slug(self.chip or ""),
        }
        return {key: value for key, value in labels.items() if value}

    def text(self) -> str:
        """The tags for people: 'cuda 2, cpu'."""
        return ", ".join(backend if n == 1 else f"{backend} {n}" for backend, n in self.counts)


def resource(backend: str) -> str:
    """The custom resource that counts a backend's devices."""
    return f"bench_{backend}"


def type_resource(node_type: str) -> str:
    """The custom resource of every node of a type that an autoscaler starts."""
    return f"bench_type_{node_type}"


def host_name() -> str:
    """This machine's name in a fleet by default."""
    return slug(socket.gethostname()) or "node"


def detected(name: str, devices: Sequence[Device], chip: str | None = None) -> Tags:
    """The tags of devices that computed, as measure.parent.devices() returns them."""
    found = Counter(device.backend for device in devices)
    accelerators = [device.name for device in devices if not ACCELERATORS[device.backend].is_host]
    return Tags(name, _ordered(found), accelerators[0] if accelerators else None, chip)


def promised(name: str, text: str, chip: str | None = None) -> Tags:
    """The tags that a user gives: 'cpu,cuda=2'."""
    found: dict[str, int] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        backend, _, number = word.partition("=")
        if backend not in BACKENDS or not re.fullmatch(r"[1-9]\d?", number or "1"):
            raise CellbenchError(f"{word!r} is not a tag", "--tags", ADVICE)
        if backend in found:
            raise CellbenchError(f"{backend} is given more than once", "--tags", f"count them: {backend}=2")
        found[backend] = int(number or 1)
    if not found:
        raise CellbenchError("there is no tag", "--tags", ADVICE)
    return Tags(name, _ordered(found), chip=chip)


def slug(text: str) -> str:
    """The nearest valid value of a label: letters, digits and -_. between, at most 63; perhaps empty."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:63].rstrip("-_.")


def checked_name(text: str) -> str:
    """A node's name as the user gave it, which must fit a label."""
    fit = slug(text)
    if not text or fit != text:
        advice = f"for instance {fit}" if fit else "for instance desk"
        raise CellbenchError(f"{text!r} cannot be a node's name", "--name", f"use letters, digits and -_. : {advice}")
    return text


def _ordered(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((backend, counts[backend]) for backend in BACKENDS if counts.get(backend))
