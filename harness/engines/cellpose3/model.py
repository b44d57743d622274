"""Stock cellpose 3 in the measuring process: load a model, segment once, prove the device.

Torch and cellpose are imported inside functions: a process times the import as a phase of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np

from harness.engines.base import Scalar, Segmentation, StageRecorder
from harness.engines.cellpose.engine import BATCH_SIZE
from harness.engines.cellpose.model import CellposeModel, torch_device
from harness.engines.cellpose3 import stage_hooks, variants
from harness.engines.cellpose3.variants import settings

DIAMETER_PX = 0.0  # 0 makes eval() estimate it


class Cellpose3Model(CellposeModel):
    """A stock models.Cellpose on exactly one device."""

    all_parts = settings.ALL

    def __init__(self, model: str, device: str) -> None:
        from cellpose import models

        wanted = torch_device(device)
        stock = models.Cellpose(gpu=wanted.type != "cpu", model_type=model, device=wanted)
        super().__init__(stock, stock.cp.net, device)

    @property
    def columns(self) -> Mapping[str, Scalar]:
        """Mean training diameter stored in the weights; it sets the scale of the first pass."""
        return {"diam_labels_px": float(self.stock.cp.diam_labels)}

    def segment(self, pixels: np.ndarray, diameter_px: float | None = None) -> Segmentation:
        """One stock eval(), which estimates the diameter if none is given; pixels (height, width)."""
        asked_px = DIAMETER_PX if diameter_px is None else diameter_px
        masks, _, _, used_px = self.stock.eval(pixels, diameter=asked_px, channels=[0, 0], batch_size=BATCH_SIZE)
        return Segmentation(masks, float(used_px))

    def apply(self, names: Sequence[str]) -> variants.Applied:
        """The parts of a variant, on the stock model."""
        return variants.apply(self.stock, names)

    def recorded(self, recorder: StageRecorder) -> AbstractContextManager[None]:
        """Time cellpose's stages while the context lasts."""
        return stage_hooks.timing(recorder)
