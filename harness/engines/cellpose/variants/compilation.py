"""A network through torch.compile, and tiles through a network in equal batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Result = tuple[np.ndarray, np.ndarray]  # flows and probability (n, 3, height, width), style (n, 256)


def compiled(net: Any, device_type: str, cuda_graphs: bool) -> Any:
    """The network, to be compiled at its first call for exactly that shape."""
    # On a CPU weights that are known to be constant are also packed once for the convolutions.
    options: dict[str, Any] = {"freezing": True} if device_type == "cpu" else {"triton.cudagraphs": cuda_graphs}
    return torch.compile(net, dynamic=False, options=options)


def failure(error: Exception) -> str:
    """The message for a failed compilation."""
    return f"torch.compile failed, so the network ran uncompiled: {str(error).splitlines()[0][:200]}"


def in_batches(run: Callable[[np.ndarray], Result], tiles: np.ndarray, n: int, is_padded: bool) -> Result:
    """The results of tiles (n_tiles, channels, height, width), n at a time; is_padded: the last ones, too."""
    batches = [tiles[i : i + n] for i in range(0, len(tiles), n)]
    if is_padded and (missing := n - len(batches[-1])):
        batches[-1] = np.concatenate((batches[-1], np.zeros((missing, *tiles.shape[1:]), tiles.dtype)))
    parts = [run(batch) for batch in batches]
    flows, styles = (np.concatenate(part)[: len(tiles)] for part in zip(*parts, strict=True))
    return flows, styles
