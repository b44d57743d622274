"""Stock cellpose 3 in the measuring process: load a model, segment once, prove what ran where.

Torch and cellpose are imported inside functions: a process times the import as a phase of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from harness.engines.base import Effective, Scalar, Segmentation, StageRecorder, Variant
from harness.engines.torch_process import Placement, threads
from harness.machine import accelerators

BATCH_SIZE = 8  # eval()'s own default; passed on so that the stored figure is the used one
DIAMETER_PX = 0.0  # 0 asks eval() to estimate it


def import_cellpose() -> None:
    """Import torch and cellpose, which compiles numba kernels; seconds, once per process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cellpose import models  # noqa: F401


class Cellpose3Model:
    """A stock models.Cellpose on exactly one device; cellpose falls back silently, this raises."""

    def __init__(self, model: str, device: str) -> None:
        import torch
        from cellpose import models

        wanted = torch.device(accelerators.of(device).torch_name(device))
        self.stock: Any = models.Cellpose(gpu=wanted.type != "cpu", model_type=model, device=wanted)
        self._placement = Placement(self.stock.cp.net, device)
        self.proof()

    @property
    def columns(self) -> Mapping[str, Scalar]:
        """Mean training diameter stored in the weights; it sets the scale of the first pass."""
        return {"diam_labels_px": float(self.stock.cp.diam_labels)}

    def segment(self, pixels: np.ndarray, diameter_px: float | None = None) -> Segmentation:
        """One stock eval(), which estimates the diameter if none is given; pixels (height, width)."""
        asked_px = DIAMETER_PX if diameter_px is None else diameter_px
        masks, _, _, used_px = self.stock.eval(pixels, diameter=asked_px, channels=[0, 0], batch_size=BATCH_SIZE)
        return Segmentation(masks, float(used_px))

    def prepare(self, pixels: np.ndarray) -> None:
        """Nothing is needed."""

    @contextmanager
    def applied(self, variant: Variant) -> Iterator[Effective]:
        """The model executed in another way while the context lasts; stock is not touched at all."""
        if variant.is_stock:
            yield Effective()
            return
        from harness.engines.cellpose3 import variants
        from harness.engines.cellpose3.variants import settings

        with variants.apply(self.stock, variant.names) as applied:
            yield Effective({**settings.ALL.columns(variant.names), **threads()}, lambda: applied.notes)

    def witnessed(self) -> AbstractContextManager[object]:
        """The devices of the network's outputs are noted for proof()."""
        return self._placement

    def proof(self) -> str:
        """The device that the network is on; DeviceFallbackError where it is not the one asked for."""
        return self._placement.proof()

    def recorded(self, recorder: StageRecorder) -> AbstractContextManager[None]:
        """Time cellpose's stages while the context lasts."""
        from harness.engines.cellpose3 import stage_hooks

        return stage_hooks.timing(recorder)
