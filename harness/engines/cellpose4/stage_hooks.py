"""Hooks on stock Cellpose 4 that only time: they report to a recorder which stage of a call begins and ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from harness.engines import hooks
from harness.engines.base import StageRecorder
from harness.engines.cellpose import stages
from harness.engines.cellpose4.catalogue import TILE_GB, TILE_GFLOP
from harness.engines.hooks import Context


@contextmanager
def timing(recorder: StageRecorder) -> Iterator[None]:
    """Time cellpose's stages while the context is open."""
    with hooks.patch(_hooks(recorder)):
        yield


def _hooks(recorder: StageRecorder) -> list[tuple[Any, str, Context]]:
    """An attribute of the module that looks it up, and the context for each of its calls."""
    from cellpose import core, dynamics, models, plot, transforms, utils

    def network(_net: Any, tiles: Any) -> AbstractContextManager[None]:
        return recorder.network(len(tiles), len(tiles) * TILE_GFLOP, len(tiles) * TILE_GB)

    @contextmanager
    def image_pass(*_: Any, **__: Any) -> Iterator[None]:
        recorder.enter_pass("mask")
        yield
        recorder.enter_pass("none")

    return [
        (models.CellposeModel, "__init__", stages.stage(recorder, "construct")),
        (models.CellposeModel, "eval", image_pass),
        (core, "_forward", network),
        *stages.hooks(recorder, (dynamics, models, plot, transforms, utils)),
    ]
