"""GPUs behind torch's caching allocator: torch.cuda and torch.xpu have the same functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.machine.accelerators.base import Accelerator


class CachingGpu(Accelerator):
    """A GPU whose memory is managed by torch's caching allocator."""

    def functions(self) -> Any:
        """The module of torch that has this kind's functions."""
        raise NotImplementedError

    def count(self) -> int:
        return self.functions().device_count() if self.build() else 0

    def name(self, index: int) -> str:
        return str(self.functions().get_device_name(index))

    def synchronizer(self, device: str) -> Callable[[], None]:
        import torch

        wanted, functions = torch.device(self.torch_name(device)), self.functions()
        return lambda: functions.synchronize(wanted)

    def empty_cache(self, device: str) -> None:
        self.functions().empty_cache()

    def reset_peak(self, device: str) -> None:
        self.functions().reset_peak_memory_stats(self.torch_name(device))

    def peaks(self, device: str) -> Mapping[str, int]:
        # One method, hence one pair of columns for all makers; the columns are older than ROCm and XPU here.
        functions, name = self.functions(), self.torch_name(device)
        return {
            "cuda_allocated_bytes": functions.max_memory_allocated(name),
            "cuda_reserved_bytes": functions.max_memory_reserved(name),
        }

    def is_out_of_memory(self, error: BaseException) -> bool:
        import torch

        return isinstance(error, torch.OutOfMemoryError) or super().is_out_of_memory(error)

    def properties(self, device: str) -> Any:
        """The properties that torch reports about a device."""
        return self.functions().get_device_properties(self.torch_name(device))

    def free_bytes(self, device: str) -> int:
        """Free memory of a device."""
        return self.functions().mem_get_info(self.torch_name(device))[0]
