"""The stages of a call that Cellpose 3 and 4 share, and the functions of cellpose that make up each stage."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from harness.engines.base import Stage, StageRecorder
from harness.engines.hooks import Context

NETWORK, DYNAMICS, QUALITY = "network", "dynamics and seeds", "quality control"
IMAGES, OTHER = "images, tiles and masks on the processor", "not attributed"

STAGES = (
    Stage("construct", "building the model, where the protocol times it", IMAGES),
    Stage("convert", "image to float32 with the channels of the model", IMAGES),
    Stage("normalize", "percentiles and scaling of the image", IMAGES),
    Stage("resize", "image, flows or masks to another size", IMAGES),
    Stage("tile", "padding, cutting tiles, collecting what the network returns", IMAGES),
    Stage("network", "the network, with copies to and from the device", NETWORK, on_host=False),
    Stage("stitch", "blending tiles into one image", IMAGES),
    Stage("dynamics", "moving pixels along the flows", DYNAMICS, on_host=False),
    Stage("seeds", "masks from where the pixels end up", DYNAMICS, on_host=False),
    Stage("qc", "quality control: each mask's own flows against the network's", QUALITY, on_host=False),
    Stage("cleanup", "filling holes, dropping small masks", IMAGES),
    Stage("flow_image", "colouring the flows, for display only", IMAGES),
    Stage("other", "what no hook claims", OTHER),
)
FUNCTIONS = {  # of cellpose, by module and name; the stage that lasts as long as a call of it
    ("transforms", "convert_image"): "convert",
    ("transforms", "normalize_img"): "normalize",
    ("transforms", "resize_image"): "resize",
    ("models", "run_net"): "tile",  # models imports it by name. Itself it pads, cuts (make_tiles) and copies
    ("transforms", "average_tiles"): "stitch",
    # Itself it thresholds, scales the flows and follows them (follow_flows, which returns before the device has
    # finished: the next stage's border waits for it).
    ("dynamics", "compute_masks"): "dynamics",
    ("dynamics", "get_masks_torch"): "seeds",
    ("dynamics", "remove_bad_flow_masks"): "qc",
    ("utils", "fill_holes_and_remove_small_masks"): "cleanup",
    ("plot", "dx_to_circ"): "flow_image",
}


def stage(recorder: StageRecorder, name: str) -> Context:
    """The context for calls of a function that make up this stage."""
    return lambda *_, **__: recorder.stage(name)


def hooks(recorder: StageRecorder, modules: Iterable[ModuleType]) -> list[tuple[Any, str, Context]]:
    """The functions in these modules of cellpose, each with the context for its calls."""
    by_name = {module.__name__.removeprefix("cellpose."): module for module in modules}
    return [(by_name[module], name, stage(recorder, each)) for (module, name), each in FUNCTIONS.items()]
