"""Hooks on stock cellpose 3.1 that only time: they report to a recorder which stage of a call begins and ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from harness.engines import hooks
from harness.engines.base import StageRecorder
from harness.engines.cellpose import stages
from harness.engines.cellpose3.catalogue import TILE_GB, TILE_GFLOP, TILE_SIDE_PX
from harness.engines.hooks import Context


@contextmanager
def timing(recorder: StageRecorder) -> Iterator[None]:
    """Time cellpose's stages while the context is open."""
    with hooks.patch(_hooks(recorder, _Passes(recorder))):
        yield


class _Passes:
    """The present network pass."""

    def __init__(self, recorder: StageRecorder) -> None:
        self._recorder = recorder
        self._next: list[str] = []

    @contextmanager
    def estimation(self, *_: Any, **__: Any) -> Iterator[None]:
        """Estimate the diameter: the two passes that begin inside are the style and the size pass."""
        self._next = ["style", "size"]
        yield
        self._recorder.enter_pass("none")

    @contextmanager
    def image_pass(self, *_: Any, **__: Any) -> Iterator[None]:
        """Begin the next network pass; stages belong to it until another begins."""
        self._recorder.enter_pass(self._next.pop(0) if self._next else "mask")
        yield


def _hooks(recorder: StageRecorder, passes: _Passes) -> list[tuple[Any, str, Context]]:
    """An attribute of the module that looks it up, and the context for each of its calls."""
    from cellpose import core, dynamics, models, plot, transforms, utils

    return [
        (models.Cellpose, "__init__", stages.stage(recorder, "construct")),
        (models.SizeModel, "eval", passes.estimation),
        (models.CellposeModel, "eval", passes.image_pass),
        (core, "_forward", lambda _net, tiles: network(recorder, tiles)),
        (utils, "diameters", stages.stage(recorder, "diameter")),
        *stages.hooks(recorder, (dynamics, models, plot, transforms, utils)),
    ]


def network(recorder: StageRecorder, tiles: Any) -> AbstractContextManager[None]:
    """Record tiles (n, channels, height, width) that go through the network; work scales with their area."""
    n, _, height_px, width_px = tiles.shape
    full_tiles = n * height_px * width_px / TILE_SIDE_PX**2
    return recorder.network(n, full_tiles * TILE_GFLOP, full_tiles * TILE_GB)
