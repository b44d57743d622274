"""What the harness asks of a kind of device; imports torch only when a device is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.machine import nvidia


@dataclass(frozen=True)
class Device:
    """A backend with an index, proven to compute."""

    backend: str
    index: int
    name: str

    @property
    def id(self) -> str:
        """cuda:0; cpu and mps, of which there is one, go without an index."""
        return f"{self.backend}:{self.index}" if self.backend not in ("cpu", "mps") else self.backend


class Accelerator:
    """One kind of device. The defaults are those of a device that computes before its call returns, such as a CPU.

    backend: the word of flags and of the column backend. torch_type: what torch calls it. sync_name: what waits for it,
    as stored with every row.
    """

    backend = "cpu"
    torch_type = "cpu"
    title = "CPU"
    sync_name = "none"

    def count(self) -> int:
        """How many devices of this kind torch lists; listing does not prove that they compute."""
        return 1

    def name(self, index: int) -> str:
        """The model of a device."""
        raise NotImplementedError

    def torch_name(self, device: str) -> str:
        """The device in torch's words: rocm:0 is cuda:0 there."""
        return device.replace(self.backend, self.torch_type, 1)

    def synchronizer(self, device: str) -> Callable[[], None]:
        """What waits until the device has done all that was asked of it."""
        return lambda: None

    def empty_cache(self, device: str) -> None:
        """Give cached device memory back."""

    def reset_peak(self, device: str) -> None:
        """Begin a new measurement of peak memory."""

    def peaks(self, device: str) -> Mapping[str, int]:
        """Columns of peak memory in bytes that the device has kept by itself since reset_peak()."""
        return {}

    def readings(self, device: str) -> Mapping[str, Callable[[], int]]:
        """Columns of memory in bytes that have to be sampled, as this kind keeps no peak."""
        return {}

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that the device's memory was full."""
        return False

    def monitor(self, device: str) -> nvidia.Gpu | None:
        """The driver's view of a device: clocks, temperature, energy; None where there is none."""
        return None

    def facts(self, device: str) -> Mapping[str, Any]:
        """Facts of machine.facts that torch tells about a device."""
        return {}
