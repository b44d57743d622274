"""The shared part of the models of Cellpose 3 and 4 in the measuring process.

Torch and cellpose are imported inside functions: a process times the import as a phase of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from harness.engines.base import Effective, StageRecorder, Variant
from harness.engines.cellpose.variants.applied import Applied
from harness.engines.cellpose.variants.parts import Parts
from harness.engines.torch_process import Placement, threads
from harness.machine import accelerators


class CellposeModel(ABC):
    """A stock model on exactly one device; cellpose falls back silently, this raises DeviceFallbackError."""

    all_parts: Parts[Any]

    def __init__(self, stock: Any, net: Any, device: str) -> None:
        self.stock = stock
        self._placement = Placement(net, device)
        self.proof()

    def prepare(self, pixels: np.ndarray) -> None:  # noqa: B027  (what most models do)
        """Nothing is needed."""

    @contextmanager
    def applied(self, variant: Variant) -> Iterator[Effective]:
        """The model executed in another way while the context lasts; stock is not touched at all."""
        if variant.is_stock:
            yield Effective()
            return
        columns = self.all_parts.columns(variant.names)
        with self.apply(variant.names) as applied:
            yield Effective({**columns, **threads()}, lambda: applied.notes)

    def witnessed(self) -> AbstractContextManager[object]:
        """Note the devices of the network's outputs for proof() while the context lasts."""
        return self._placement

    def proof(self) -> str:
        """The device of the network; DeviceFallbackError where it is not the requested one."""
        return self._placement.proof()

    @abstractmethod
    def apply(self, names: Sequence[str]) -> Applied:
        """The parts of a variant, on the stock model."""

    @abstractmethod
    def recorded(self, recorder: StageRecorder) -> AbstractContextManager[None]:
        """Time cellpose's stages while the context lasts."""


def torch_device(device: str) -> Any:
    """The device in torch's words."""
    import torch

    return torch.device(accelerators.of(device).torch_name(device))
