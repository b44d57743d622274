"""The GPU of an Apple chip."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.machine import probe
from harness.machine.accelerators.base import Accelerator


class Mps(Accelerator):
    """The one GPU of an Apple chip, through Metal."""

    backend = torch_type = "mps"
    title, platform = "Apple GPU", "Metal"
    sync_name = "torch.mps.synchronize"
    is_single = True
    hue, shape = 3, "diamond"
    out_of_memory_words = ("MPS backend out of memory",)

    def count(self) -> int:
        import torch

        return int(torch.backends.mps.is_available())

    def build(self) -> str | None:
        import torch

        return "Metal" if torch.backends.mps.is_built() else None

    def name(self, index: int) -> str:
        return f"{probe.cpu_model()} GPU"

    def synchronizer(self, device: str) -> Callable[[], None]:
        import torch

        return torch.mps.synchronize

    def empty_cache(self, device: str) -> None:
        import torch

        torch.mps.empty_cache()

    def readings(self, device: str) -> Mapping[str, Callable[[], int]]:
        import torch

        return {
            "mps_current_bytes": torch.mps.current_allocated_memory,
            "mps_driver_bytes": torch.mps.driver_allocated_memory,
        }
