"""Hooks on stock Cellpose 4 that only time: they tell a recorder which stage of a call begins and ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from harness.engines import hooks
from harness.engines.base import StageRecorder
from harness.engines.cellpose4.catalogue import TILE_GB, TILE_GFLOP
from harness.engines.hooks import Context


@contextmanager
def timing(recorder: StageRecorder) -> Iterator[None]:
    """Time cellpose's stages while the context is open."""
    with hooks.patch(_hooks(recorder)):
        yield


def _hooks(recorder: StageRecorder) -> list[tuple[Any, str, Context]]:
    """An attribute of the module that looks it up, and the context that each of its calls is put in."""
    from cellpose import core, dynamics, models, plot, transforms, utils

    def stage(name: str) -> Context:
        return lambda *_, **__: recorder.stage(name)

    def network(_net: Any, tiles: Any) -> AbstractContextManager[None]:
        return recorder.network(len(tiles), len(tiles) * TILE_GFLOP, len(tiles) * TILE_GB)

    @contextmanager
    def image_pass(*_: Any, **__: Any) -> Iterator[None]:
        recorder.enter_pass("mask")
        yield
        recorder.enter_pass("none")

    return [
        (models.CellposeModel, "__init__", stage("construct")),
        (models.CellposeModel, "eval", image_pass),
        (transforms, "convert_image", stage("convert")),
        (transforms, "normalize_img", stage("normalize")),
        (transforms, "resize_image", stage("resize")),
        # models imports this one by name. Of its own it pads, cuts (make_tiles) and copies.
        (models, "run_net", stage("tile")),
        (core, "_forward", network),
        (transforms, "average_tiles", stage("stitch")),
        # Of its own it thresholds, scales the flows and follows them.
        (dynamics, "compute_masks", stage("dynamics")),
        (dynamics, "get_masks_torch", stage("seeds")),
        (dynamics, "remove_bad_flow_masks", stage("qc")),
        (utils, "fill_holes_and_remove_small_masks", stage("cleanup")),
        (plot, "dx_to_circ", stage("flow_image")),
    ]
