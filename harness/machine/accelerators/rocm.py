"""AMD's GPUs. A torch built for ROCm calls them cuda; here they have their own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.machine.accelerators.caching import CachingGpu
from harness.machine.probe_io import Sources

# Graphics inside a processor have a small part of the host's memory as their own, and ROCm supports few of them.
OWN_MEMORY_BYTES = 4 * 2**30


class Rocm(CachingGpu):
    """A GPU that torch reaches through ROCm, by the functions of torch.cuda."""

    backend, torch_type = "rocm", "cuda"
    title, platform = "AMD GPU", "ROCm"
    sync_name = "torch.cuda.synchronize"
    hue, shape = 2, "cross"
    visibility_settings = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
    blocking_setting = "AMD_SERIALIZE_KERNEL"
    out_of_memory_words = ("HIP out of memory", "HIP error: out of memory", "HIPBLAS_STATUS_ALLOC_FAILED")

    def functions(self) -> Any:
        import torch

        return torch.cuda

    def build(self) -> str | None:
        import torch

        return torch.version.hip

    def driver_count(self, sources: Sources) -> int:
        sizes = [sources.number(path) for path in sources.paths("sys/class/drm/card[0-9]*/device/mem_info_vram_total")]
        return sum(size is not None and size >= OWN_MEMORY_BYTES for size in sizes)

    def facts(self, device: str) -> Mapping[str, Any]:
        gpu = self.properties(device)
        return {
            "gpu_name": gpu.name,
            "gpu_compute_capability": gpu.gcnArchName.partition(":")[0],  # without the switches behind it
            "gpu_multiprocessors": gpu.multi_processor_count,
            "gpu_memory_bytes": gpu.total_memory,
            "gpu_memory_free_bytes": self.free_bytes(device),
        }
