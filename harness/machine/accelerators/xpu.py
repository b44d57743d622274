"""Intel's GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.machine.accelerators.caching import CachingGpu


class Xpu(CachingGpu):
    """A GPU that torch reaches through SYCL."""

    backend = torch_type = "xpu"
    title, platform = "Intel GPU", "SYCL"
    sync_name = "torch.xpu.synchronize"
    hue, shape = 4, "triangle-down"
    visibility_settings = ("ZE_AFFINITY_MASK", "ONEAPI_DEVICE_SELECTOR")
    out_of_memory_words = (
        "XPU out of memory", "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY", "UR_RESULT_ERROR_OUT_OF_RESOURCES",
    )  # fmt: skip

    def functions(self) -> Any:
        import torch

        return torch.xpu

    def count(self) -> int:
        import torch

        return torch.xpu.device_count() if hasattr(torch, "xpu") else 0

    def build(self) -> str | None:
        import torch

        return getattr(torch.version, "xpu", None)

    def facts(self, device: str) -> Mapping[str, Any]:
        gpu = self.properties(device)
        return {
            "gpu_name": gpu.name,
            "gpu_driver_version": gpu.driver_version,
            "gpu_multiprocessors": gpu.max_compute_units,
            "gpu_memory_bytes": gpu.total_memory,
            "gpu_memory_free_bytes": self.free_bytes(device),
        }
