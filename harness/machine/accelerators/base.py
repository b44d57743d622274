"""The interface of a kind of device; torch is imported only when a device is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from harness.machine.probe_io import Sources

# The columns of a sample that a monitor fills.
LIVE = ("gpu_mhz", "gpu_temperature_c", "gpu_power_w", "gpu_throttle", "foreign_gpu_processes")


class Monitor(Protocol):
    """The driver's readings of a device. Missing readings are None."""

    @property
    def name(self) -> str:
        """The driver's interface, as stored with energy: nvml."""
        ...

    def facts(self) -> dict[str, Any]:
        """Facts of machine.facts that stay the same while a program runs."""
        ...

    def live(self) -> dict[str, Any]:
        """The columns LIVE at this moment."""
        ...

    def is_idle(self) -> bool | None:
        """Whether nothing runs on the device, so that its clock may fall."""
        ...

    def energy_j(self) -> float | None:
        """Energy in J since some instant."""
        ...


class Accelerator:
    """One kind of device. The defaults are those of a device that computes before its call returns, such as a CPU.

    backend: the word of flags and of the column backend. torch_type: its name in torch. platform: that torch is built
    for. sync_name: the function that waits for it, as stored with every row. is_single: whether a machine has at most
    one, so that its id has no index. hue: place in the palette of the charts. shape: of its points there.
    visibility_settings: environment variables that hide devices. blocking_setting: the one that makes every launch
    wait. out_of_memory_words: of error messages.
    """

    backend = "cpu"
    torch_type = "cpu"
    title = platform = "CPU"
    sync_name = "none"
    is_single = False
    hue = 0
    shape = "circle"
    visibility_settings: tuple[str, ...] = ()
    blocking_setting: str | None = None
    out_of_memory_words: tuple[str, ...] = ()

    @property
    def is_host(self) -> bool:
        """Whether the host itself computes."""
        return self.backend == "cpu"

    def count(self) -> int:
        """The number of devices of this kind that torch lists; listing does not prove that they compute."""
        return 1

    def driver_count(self, sources: Sources) -> int:
        """The number of devices of this kind that the driver lists; 0 where it reports none."""
        return 0

    def build(self) -> str | None:
        """The version of the platform that torch was built for; None where it was built without this kind."""
        return "host"

    def id(self, index: int) -> str:
        """The id of a device: cuda:0, cpu."""
        return self.backend if self.is_single else f"{self.backend}:{index}"

    def name(self, index: int) -> str:
        """The model of a device."""
        raise NotImplementedError

    def uuid(self, index: int) -> str | None:
        """The id of a device in its driver; None where it has none."""
        return None

    def torch_name(self, device: str) -> str:
        """The device in torch's words: rocm:0 is cuda:0 there."""
        return device.replace(self.backend, self.torch_type, 1)

    def synchronizer(self, device: str) -> Callable[[], None]:
        """A function that waits until the device has finished its queue."""
        return lambda: None

    def empty_cache(self, device: str) -> None:
        """Release cached device memory."""

    def reset_peak(self, device: str) -> None:
        """Begin a new measurement of peak memory."""

    def peaks(self, device: str) -> Mapping[str, int]:
        """Columns of peak memory since reset_peak(), in bytes, where the device's allocator keeps a peak."""
        return {}

    def readings(self, device: str) -> Mapping[str, Callable[[], int]]:
        """Columns of memory in bytes that have to be sampled, where the allocator keeps no peak."""
        return {}

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error means that the device's memory was full."""
        return any(word in str(error) for word in self.out_of_memory_words)

    def monitor(self, device: str, uuid: str | None = None) -> Monitor | None:
        """The driver's readings of a device: clocks, temperature, energy; None where there are none.

        uuid: of the device, from uuid() in another process; without it torch is used, which makes the device's context.
        """
        return None

    def facts(self, device: str) -> Mapping[str, Any]:
        """Facts of machine.facts that torch reports about a device."""
        return {}
