"""NVIDIA's GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.machine import nvidia
from harness.machine.accelerators.base import Monitor
from harness.machine.accelerators.caching import CachingGpu
from harness.machine.probe_io import Sources


class Cuda(CachingGpu):
    """A GPU that torch reaches through CUDA."""

    backend = torch_type = "cuda"
    title, platform = "NVIDIA GPU", "CUDA"
    sync_name = "torch.cuda.synchronize"
    hue, shape = 1, "square"
    visibility_settings = ("CUDA_VISIBLE_DEVICES",)
    blocking_setting = "CUDA_LAUNCH_BLOCKING"
    out_of_memory_words = (
        "CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
    )  # fmt: skip

    def functions(self) -> Any:
        import torch

        return torch.cuda

    def build(self) -> str | None:
        import torch

        return torch.version.cuda

    def driver_count(self, sources: Sources) -> int:
        return len(sources.paths("proc/driver/nvidia/gpus/*"))

    def uuid(self, index: int) -> str | None:
        return str(self.properties(f"{self.backend}:{index}").uuid)

    def monitor(self, device: str, uuid: str | None = None) -> Monitor | None:
        return nvidia.open_gpu(uuid or str(self.properties(device).uuid))

    def facts(self, device: str) -> Mapping[str, Any]:
        import torch

        gpu = self.properties(device)
        return {
            "gpu_uuid": str(gpu.uuid),
            "gpu_compute_capability": f"{gpu.major}.{gpu.minor}",
            "gpu_multiprocessors": gpu.multi_processor_count,
            "gpu_memory_free_bytes": self.free_bytes(device),
            "torch_cudnn_version": torch.backends.cudnn.version(),
        }
