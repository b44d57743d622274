"""A network through torch.compile, and tiles through a network in equal batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Outputs = tuple[torch.Tensor, torch.Tensor]  # flows and probability (n, 3, height, width), style (n, 256)


def compiled(net: Any, device_type: str, cuda_graphs: bool) -> Any:
    """The network, to be compiled at its first call for exactly that shape."""
    # On a CPU weights that are known to be constant are also packed once for the convolutions.
    options: dict[str, Any] = {"freezing": True} if device_type == "cpu" else {"triton.cudagraphs": cuda_graphs}
    return torch.compile(net, dynamic=False, options=options)


def failure(error: Exception) -> str:
    """The message for a failed compilation."""
    return f"torch.compile failed, so the network ran uncompiled: {str(error).splitlines()[0][:200]}"


def in_batches(run: Callable[[torch.Tensor], Outputs], tiles: torch.Tensor, n: int, is_padded: bool) -> Outputs:
    """The results of tiles (n_tiles, channels, height, width), n at a time; is_padded: the last ones, too."""
    batches = list(tiles.split(n))
    if is_padded and (missing := n - len(batches[-1])):
        batches[-1] = functional.pad(batches[-1], [0] * 7 + [missing])
    parts = [run(batch) for batch in batches]
    flows, styles = (torch.cat(part)[: len(tiles)] for part in zip(*parts, strict=True))
    return flows, styles
