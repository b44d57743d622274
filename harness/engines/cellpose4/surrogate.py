"""The replacement of Cellpose-SAM's published weights: the identical network from a seed, and drawn flows.

A network from a seed finds no cells. So that the later steps have plausible work, its output is replaced, after it has
run in full, by the flows of cells in the image: the truth of a built-in image, else the result of a threshold.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.errors import CellbenchError
from harness.machine import folders

SEED = 0
FILE_BYTES = 1_240_000_000  # the network in float32
MEMORY_BYTES = 3_000_000_000  # twice the network, while it is written
CELL, BACKGROUND = 6.0, -6.0  # cell probability before the sigmoid


def file() -> Path:
    """The file of the network from a seed on this machine."""
    return folders.home() / "surrogates" / f"cpsam-seed{SEED}"


def main() -> Path:
    """Write the network from a seed, once a machine; CellbenchError where disk or memory do not suffice.

    It runs in a process that has the engine.
    """
    target = file()
    if target.is_file():
        return target
    _check_room(target)
    import torch
    from cellpose import models

    torch.manual_seed(SEED)
    network = _network_class(models)(dtype=torch.float32)
    with files.replacing(target, make_folder=True, what="the network") as stream:
        torch.save(network.state_dict(), stream)
    return target


def _network_class(models: Any) -> Any:
    """The class of Cellpose-SAM's network, which has another name in each line of versions."""
    return getattr(models, "CPSAM", None) or models.Transformer


def _check_room(target: Path) -> None:
    import psutil

    there = next(folder for folder in target.parents if folder.exists())
    for what, free_bytes, needed_bytes in (
        ("disk space", shutil.disk_usage(there).free, FILE_BYTES),
        ("memory", psutil.virtual_memory().available, MEMORY_BYTES),
    ):
        if free_bytes < needed_bytes:
            raise CellbenchError(
                f"the stand-in network needs {needed_bytes / 1e9:.1f} GB of {what}; {free_bytes / 1e9:.1f} GB are free",
                str(there), "free some, or set CELLBENCH_HOME to another disk",
            )  # fmt: skip


class DrawnFlows:
    """Flows and cell probability of the cells in an image, drawn once; they replace the network's output."""

    def __init__(self) -> None:
        self._known: dict[bytes, np.ndarray] = {}

    @contextmanager
    def in_place_of_the_network(self, pixels: np.ndarray) -> Iterator[None]:
        """While the context lasts, the network's output for these pixels is the drawn one, of whatever size it has."""
        from cellpose import models

        flows = self.draw(pixels)
        original = models.run_net

        def run_net(*args: Any, **kwargs: Any) -> Any:
            output, styles = original(*args, **kwargs)
            return _fitted(flows, output.shape), styles

        models.run_net = run_net
        try:
            yield
        finally:
            models.run_net = original

    def draw(self, pixels: np.ndarray) -> np.ndarray:
        """(height, width, 3): flow in y, flow in x, probability; drawn once for each image."""
        key = repr(pixels.shape).encode() + pixels[::31, ::37].tobytes()
        if key not in self._known:
            self._known[key] = flows_of(labels_of(pixels))
        return self._known[key]


def labels_of(pixels: np.ndarray) -> np.ndarray:
    """The cells of a built-in image's centred crop, else the connected bright regions; (height, width) int32."""
    from scipy import ndimage

    from harness.images import synthetic

    if (known := synthetic.truth(pixels)) is not None:
        return known
    values = pixels.astype(np.float32)
    low, high = np.percentile(values, (5, 99))
    bright = ndimage.gaussian_filter(values, 1.0) > (low + high) / 2
    regions, _ = ndimage.label(bright)  # pyright: ignore[reportGeneralTypeIssues]  # its stub lacks the tuple
    return regions.astype(np.int32)


def flows_of(labels: np.ndarray) -> np.ndarray:
    """(height, width, 3) float32 as the network would return them for these cells."""
    from cellpose import dynamics

    probability = np.where(labels > 0, CELL, BACKGROUND).astype(np.float32)
    if not labels.any():
        return np.concatenate([np.zeros((*labels.shape, 2), np.float32), probability[..., None]], axis=-1)
    numbers = np.unique(np.append(labels.ravel(), 0), return_inverse=True)[1][:-1]  # a crop's labels have gaps
    found = dynamics.masks_to_flows_gpu(numbers.reshape(labels.shape))
    flows = np.asarray(found[0] if isinstance(found, tuple) else found)  # from 4.2 on with the cells' boxes
    return np.concatenate([5.0 * np.moveaxis(flows, 0, -1), probability[..., None]], axis=-1).astype(np.float32)


def _fitted(flows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The drawn output in the network's own shape, which differs where the image was scaled."""
    height_px, width_px = shape[-3:-1]
    if flows.shape[:2] != (height_px, width_px):
        import cv2

        flows = cv2.resize(flows, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return flows.reshape(*([1] * (len(shape) - 3)), *flows.shape).copy()
