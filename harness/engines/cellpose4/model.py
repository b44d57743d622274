"""Stock Cellpose 4 in the measuring process: load a model, segment once, prove the device.

Torch and cellpose are imported inside functions: a process times the import as a phase of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np

from harness.engines.base import Effective, Scalar, Segmentation, StageRecorder, Variant
from harness.engines.cellpose.engine import BATCH_SIZE
from harness.engines.cellpose.model import CellposeModel, torch_device
from harness.engines.cellpose4 import stage_hooks, surrogate, variants
from harness.engines.cellpose4.variants import settings
from harness.errors import CellbenchError

NO_RESCALING_PX = 30.0  # the diameter at which the image is not scaled; 0 would mean the same, and None does


class Cellpose4Model(CellposeModel):
    """A stock CellposeModel of Cellpose 4 on exactly one device, from exactly one file."""

    all_parts = settings.ALL

    def __init__(self, file: str, device: str, dtype: str) -> None:
        import torch
        from cellpose import models

        wanted = torch_device(device)
        stock: Any = models.CellposeModel(
            gpu=wanted.type != "cpu",
            pretrained_model=file,
            device=wanted,
            use_bfloat16=dtype == "bfloat16",  # pyright: ignore[reportCallIssue]  # cellpose 4 lies in an overlay
        )
        if dtype == "float16":
            stock.net.dtype = torch.float16
        _check(stock, file, dtype)
        self._diameter_px = NO_RESCALING_PX  # of calls that name none
        super().__init__(stock, stock.net, device)

    @property
    def columns(self) -> Mapping[str, Scalar]:
        """No columns in addition to those known before the model is loaded."""
        return {}

    def segment(self, pixels: np.ndarray, diameter_px: float | None = None) -> Segmentation:
        """One stock eval(); pixels (height, width). Without a diameter the image is not scaled."""
        given = {} if diameter_px is None else {"diameter": diameter_px}
        masks, _, _ = self.stock.eval(pixels, batch_size=BATCH_SIZE, **given)
        return Segmentation(masks, self._diameter_px if diameter_px is None else float(diameter_px))

    @contextmanager
    def applied(self, variant: Variant) -> Iterator[Effective]:
        """The model executed in another way while the context lasts, at the variant's diameter if it has one."""
        columns = settings.ALL.columns(variant.names)
        self._diameter_px = float(columns.get("diameter_asked_px") or NO_RESCALING_PX)
        try:
            with super().applied(variant) as effective:
                yield effective
        finally:
            self._diameter_px = NO_RESCALING_PX

    def apply(self, names: Sequence[str]) -> variants.Applied:
        """The parts of a variant, on the stock model."""
        return variants.apply(self.stock, names)

    def recorded(self, recorder: StageRecorder) -> AbstractContextManager[None]:
        """Time cellpose's stages while the context lasts."""
        return stage_hooks.timing(recorder)


class SurrogateModel(Cellpose4Model):
    """The identical network with weights from a seed; its output is replaced by flows drawn from the image."""

    _drawn = surrogate.DrawnFlows()  # of all models of the process: the article's protocol makes one inside the clock

    def prepare(self, pixels: np.ndarray) -> None:
        """Draw the flows of these pixels."""
        self._drawn.draw(pixels)

    def segment(self, pixels: np.ndarray, diameter_px: float | None = None) -> Segmentation:
        """One stock eval() whose network runs in full, and whose flows are those of cells drawn from the image."""
        with ExitStack() as stack:
            stack.enter_context(self._drawn.in_place_of_the_network(pixels))
            return super().segment(pixels, diameter_px)


def _check(stock: Any, file: str, dtype: str) -> None:
    """CellbenchError where another file or precision was loaded: cellpose takes its default for an unknown name."""
    if os.path.realpath(str(stock.pretrained_model)) != os.path.realpath(file):
        raise CellbenchError(
            f"cellpose loaded {stock.pretrained_model} instead", file, "see that the file exists and is a CP4 model"
        )
    used = str(next(stock.net.parameters()).dtype).removeprefix("torch.")
    if used != dtype:
        raise CellbenchError(f"the network was loaded as {used} instead of {dtype}", file, "leave --dtypes out")
