"""NVIDIA's GPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.machine import nvidia
from harness.machine.accelerators.base import Accelerator


class Cuda(Accelerator):
    """A GPU that torch reaches through CUDA."""

    backend = torch_type = "cuda"
    title = "NVIDIA GPU"
    sync_name = "torch.cuda.synchronize"

    def count(self) -> int:
        import torch

        return torch.cuda.device_count()

    def name(self, index: int) -> str:
        import torch

        return str(torch.cuda.get_device_name(index))

    def synchronizer(self, device: str) -> Callable[[], None]:
        import torch

        wanted = torch.device(self.torch_name(device))
        return lambda: torch.cuda.synchronize(wanted)

    def empty_cache(self, device: str) -> None:
        import torch

        torch.cuda.empty_cache()

    def reset_peak(self, device: str) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(self.torch_name(device))

    def peaks(self, device: str) -> Mapping[str, int]:
        import torch

        name = self.torch_name(device)
        return {
            "cuda_allocated_bytes": torch.cuda.max_memory_allocated(name),
            "cuda_reserved_bytes": torch.cuda.max_memory_reserved(name),
        }

    def is_out_of_memory(self, error: BaseException) -> bool:
        import torch

        return isinstance(error, torch.cuda.OutOfMemoryError)

    def monitor(self, device: str) -> nvidia.Gpu | None:
        uuid = self._uuid(device)
        return nvidia.open_gpu(uuid) if uuid else None

    def facts(self, device: str) -> Mapping[str, Any]:
        import torch

        name = self.torch_name(device)
        gpu = torch.cuda.get_device_properties(name)
        return {
            "gpu_uuid": self._uuid(device),
            "gpu_compute_capability": f"{gpu.major}.{gpu.minor}",
            "gpu_multiprocessors": gpu.multi_processor_count,
            "gpu_memory_free_bytes": torch.cuda.mem_get_info(name)[0],
            "torch_cudnn_version": torch.backends.cudnn.version(),
        }

    def _uuid(self, device: str) -> str | None:
        """The UUID by which the driver knows a device, without its prefix."""
        import torch

        return str(torch.cuda.get_device_properties(self.torch_name(device)).uuid)
