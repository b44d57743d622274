"""The settings and parts that variants of every cellpose have; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from harness.engines.cellpose.variants.parts import CHOICE, Part

STORED = {"batch_size": "batch_size", "diameter_asked_px": "diameter_px", "torch_threads": "threads"}


@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """The settings of a call; the defaults are stock."""

    compiled: bool = False
    cuda_graphs: bool = False
    fast_seeds: bool = False
    fast_qc: bool = False
    fast_stitch: bool = False
    no_flow_image: bool = False
    batch_size: int | None = None
    threads: int | None = None
    tile_overlap: float | None = None
    diameter_px: float | None = None

    def call(self, original: Callable[..., Any], model: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        """eval() with the batch size and the diameter of the variant, unless the caller names its own."""
        if self.batch_size is not None and not args:
            kwargs["batch_size"] = self.batch_size
        if self.diameter_px is not None and not kwargs.get("diameter"):
            kwargs["diameter"] = self.diameter_px
        return original(model, x, *args, **kwargs)


CallSettingsT = TypeVar("CallSettingsT", bound=CallSettings)


def without(made: CallSettingsT, **stock: float) -> CallSettingsT:
    """Settings with None in the place of a value that is stock's own."""
    return replace(made, **{name: None for name, value in stock.items() if getattr(made, name) == value})


NO_FLOW_IMAGE = Part("no-flow-image", {"no_flow_image": True}, "no coloured flow image at all: flows[0] is None")
FAST_QC = Part("fast-qc", {"fast_qc": True}, "quality control compiled, cells in parallel")
FAST_STITCH = Part("fast-stitch", {"fast_stitch": True}, "tiles blended by compiled code, on all cores")


def arguments(may_change: str, diameter: str, overlap: Part) -> tuple[Part, ...]:
    """The parts with a value. diameter: what a given one does."""
    return (
        Part("batch", {"batch_size": None}, "tiles per network call", may_change, takes=int, limits=(1, 4096),
             by_hand="model.eval(…, batch_size={})"),
        Part("threads", {"threads": None}, "threads of torch, OpenCV and numba", may_change, takes=int,
             limits=(1, 4096),
             by_hand="torch.set_num_threads({}); cv2.setNumThreads({}); numba.set_num_threads({})"),
        overlap,
        Part("diameter", {"diameter_px": None}, diameter, CHOICE, takes=float, limits=(1, 10_000),
             by_hand="model.eval(…, diameter={})"),
    )  # fmt: skip
