"""The host's processors."""

from __future__ import annotations

from harness.machine import probe
from harness.machine.accelerators.base import Accelerator


class Cpu(Accelerator):
    """All processors of the host as one device."""

    is_single = True

    def name(self, index: int) -> str:
        return probe.cpu_model() or "CPU"
