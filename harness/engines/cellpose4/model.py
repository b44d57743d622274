"""Stock Cellpose 4 in the measuring process: load a model, segment once, prove what ran where.

Torch and cellpose are imported inside functions: a process times the import as a phase of its own.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np

from harness.engines.base import Effective, Scalar, Segmentation, StageRecorder, Variant
from harness.engines.cellpose4 import surrogate
from harness.engines.torch_process import Placement, threads
from harness.errors import CellbenchError
from harness.machine import accelerators

BATCH_SIZE = 8  # eval()'s own default; passed on so that the stored figure is the used one
NO_RESCALING_PX = 30.0  # the diameter at which the image is not scaled; 0 would mean the same, and None does


def import_cellpose() -> None:
    """Import torch and cellpose; seconds, once per process."""
    logging.getLogger("cellpose").setLevel(logging.ERROR)  # it warns of a model that is not installed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cellpose import models  # noqa: F401


class Cellpose4Model:
    """A stock CellposeModel of Cellpose 4 on exactly one device, from exactly one file."""

    def __init__(self, file: str, device: str, dtype: str) -> None:
        import torch
        from cellpose import models

        wanted = torch.device(accelerators.of(device).torch_name(device))
        self.stock: Any = models.CellposeModel(
            gpu=wanted.type != "cpu",
            pretrained_model=file,
            device=wanted,
            use_bfloat16=dtype == "bfloat16",  # pyright: ignore[reportCallIssue]  # cellpose 4 lies in an overlay
        )
        if dtype == "float16":
            self.stock.net.dtype = torch.float16
        _check(self.stock, file, dtype)
        self._diameter_px = NO_RESCALING_PX  # of calls that name none
        self._placement = Placement(self.stock.net, device)
        self.proof()

    @property
    def columns(self) -> Mapping[str, Scalar]:
        """Nothing that is not known before the model is loaded."""
        return {}

    def segment(self, pixels: np.ndarray, diameter_px: float | None = None) -> Segmentation:
        """One stock eval(); pixels (height, width). Without a diameter the image is not scaled."""
        given = {} if diameter_px is None else {"diameter": diameter_px}
        masks, _, _ = self.stock.eval(pixels, batch_size=BATCH_SIZE, **given)
        return Segmentation(masks, self._diameter_px if diameter_px is None else float(diameter_px))

    def prepare(self, pixels: np.ndarray) -> None:
        """Nothing is needed."""

    @contextmanager
    def applied(self, variant: Variant) -> Iterator[Effective]:
        """The model executed in another way while the context lasts; stock is not touched at all."""
        if variant.is_stock:
            yield Effective()
            return
        from harness.engines.cellpose4 import variants
        from harness.engines.cellpose4.variants import settings

        columns = settings.ALL.columns(variant.names)
        with variants.apply(self.stock, variant.names) as applied:
            self._diameter_px = float(columns.get("diameter_asked_px") or NO_RESCALING_PX)
            try:
                yield Effective({**columns, **threads()}, lambda: applied.notes)
            finally:
                self._diameter_px = NO_RESCALING_PX

    def witnessed(self) -> AbstractContextManager[object]:
        """The devices of the network's outputs are noted for proof()."""
        return self._placement

    def proof(self) -> str:
        """The device that the network is on; DeviceFallbackError where it is not the one asked for."""
        return self._placement.proof()

    def recorded(self, recorder: StageRecorder) -> AbstractContextManager[None]:
        """Time cellpose's stages while the context lasts."""
        from harness.engines.cellpose4 import stage_hooks

        return stage_hooks.timing(recorder)


class SurrogateModel(Cellpose4Model):
    """The identical network with weights from a seed; what it returns is replaced by flows drawn from the image."""

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
