"""Kinds of devices: a module each, listed here once. The CPU comes last, since every machine has one."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

from harness.machine.accelerators.base import Accelerator, Monitor
from harness.machine.accelerators.cpu import Cpu
from harness.machine.accelerators.cuda import Cuda
from harness.machine.accelerators.mps import Mps
from harness.machine.accelerators.rocm import Rocm
from harness.machine.accelerators.xpu import Xpu

__all__ = [
    "ACCELERATORS", "GPUS", "Accelerator", "Device", "Monitor", "computes", "device_words", "found", "listed", "names",
    "of",
]  # fmt: skip

ACCELERATORS: dict[str, Accelerator] = {each.backend: each for each in (Cuda(), Rocm(), Mps(), Xpu(), Cpu())}
GPUS = tuple(name for name, kind in ACCELERATORS.items() if not kind.is_host)


@dataclass(frozen=True)
class Device:
    """A backend with an index, proven to compute. uuid: the unit's id in the driver; None where it has none."""

    backend: str
    index: int
    name: str
    uuid: str | None = None

    @property
    def id(self) -> str:
        """The id, such as cuda:0; a backend with one device a machine has no index."""
        kind = ACCELERATORS.get(self.backend)
        return kind.id(self.index) if kind else f"{self.backend}:{self.index}"


def of(device: str) -> Accelerator:
    """The kind of a device by its id or backend: cuda:0, cpu."""
    return ACCELERATORS[device.partition(":")[0]]


def names(text: str) -> bool:
    """Whether a text names a device, or every device of a backend: cuda:0, cuda, cpu."""
    backend, colon, index = text.partition(":")
    kind = ACCELERATORS.get(backend)
    return kind is not None and (not colon or (not kind.is_single and re.fullmatch("[0-9]+", index) is not None))


def device_words() -> str:
    """The words that names() accepts, for messages."""
    return ", ".join(name if kind.is_single else f"{name}, {name}:N" for name, kind in ACCELERATORS.items())


def listed() -> list[str]:
    """The ids of the devices that torch lists, whether or not they compute."""
    return [kind.id(index) for kind in ACCELERATORS.values() for index in range(kind.count())]


def found() -> list[Device]:
    """Every device that computes a small sum here."""
    indices = [(kind, index) for kind in ACCELERATORS.values() for index in range(kind.count())]
    return [
        Device(kind.backend, index, kind.name(index), kind.uuid(index))
        for kind, index in indices
        if computes(kind.id(index))
    ]


def computes(device: str) -> bool:
    """Whether a device multiplies two small matrices correctly."""
    import torch

    try:
        ones = torch.ones(64, 64, device=of(device).torch_name(device))
        return float((ones @ ones).sum().cpu()) == 64.0**3
    except (RuntimeError, AssertionError) as error:
        warnings.warn(f"{device} does not compute: {error}", stacklevel=2)
        return False
