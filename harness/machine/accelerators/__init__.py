"""Kinds of devices: a module each, listed here once. The CPU comes last, since every machine has one."""

from __future__ import annotations

import warnings

from harness.machine.accelerators.base import Accelerator, Device
from harness.machine.accelerators.cpu import Cpu
from harness.machine.accelerators.cuda import Cuda
from harness.machine.accelerators.mps import Mps

__all__ = ["ACCELERATORS", "Accelerator", "Device", "computes", "found", "of"]

ACCELERATORS: dict[str, Accelerator] = {each.backend: each for each in (Cuda(), Mps(), Cpu())}


def of(device: str) -> Accelerator:
    """The kind of a device by its id or backend: cuda:0, cpu."""
    return ACCELERATORS[device.partition(":")[0]]


def found() -> list[Device]:
    """Every device that computes a small sum right here; what torch lists alone is not believed."""
    listed = [
        Device(kind.backend, index, kind.name(index)) for kind in ACCELERATORS.values() for index in range(kind.count())
    ]
    return [device for device in listed if computes(device.id)]


def computes(device: str) -> bool:
    """Whether a device multiplies two small matrices correctly."""
    import torch

    try:
        ones = torch.ones(64, 64, device=of(device).torch_name(device))
        return float((ones @ ones).sum().cpu()) == 64.0**3
    except (RuntimeError, AssertionError) as error:
        warnings.warn(f"{device} does not compute: {error}", stacklevel=2)
        return False
