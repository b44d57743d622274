"""Cellpose-SAM's network, executed differently: same weights, other attention, layout, fusion or grouping."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.engines.cellpose.variants import compilation
from harness.engines.cellpose.variants.compilation import Outputs
from harness.engines.cellpose4.variants import attention
from harness.engines.cellpose4.variants.settings import Settings
from harness.errors import CellbenchError

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
Tables = Callable[[int, int, torch.Tensor], torch.Tensor]  # segment_anything's get_rel_pos


class Runner:
    """core._forward for one model: a network that shares the weights of stock's, with the blocks of the settings."""

    def __init__(self, net: Any, settings: Settings, tables: Tables) -> None:
        self._device, self._dtype, self._is_cpu = net.device, net.dtype, net.device.type == "cpu"
        self.notes: list[str] = []
        self._flash: attention.Flash | None = None
        own = self._own(net, settings, tables).eval()
        self._net, self._compiled = own, None
        if settings.compiled:
            self._compiled = compilation.compiled(own, self._device.type, settings.cuda_graphs)

    def __call__(self, tiles: np.ndarray, batch_size: int) -> list[np.ndarray]:
        """Tiles (n, channels, height, width) float32 → flows and probability (n, 3, height, width), style (n, 256)."""
        return [each.numpy() for each in self._outputs(torch.from_numpy(tiles), batch_size)]

    def _outputs(self, tiles: torch.Tensor, batch_size: int) -> Outputs:
        # A CPU is as fast tile by tile, and a tile's activations stay in the cache.
        n = 1 if self._is_cpu else batch_size
        if self._compiled is not None:
            try:
                # One shape only, since each new one is compiled again.
                return compilation.in_batches(partial(self._pass, self._compiled), tiles, n, is_padded=True)
            except Exception as error:  # a compiler may raise anything; the network itself works
                self._compiled = None
                self.notes.append(compilation.failure(error))
        return compilation.in_batches(partial(self._pass, self._net), tiles, n, is_padded=False)

    def close(self) -> None:
        """Release threads and memory."""
        if self._flash:
            self._flash.close()

    def _pass(self, net: Any, tiles: torch.Tensor) -> Outputs:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # inductor's warnings about this GPU or that compiler
            flows, style = net(tiles.to(self._device, dtype=self._dtype))[:2]
        return flows.float().cpu(), style.float().cpu()

    def _own(self, net: Any, settings: Settings, tables: Tables) -> Any:
        """Stock's network with other blocks: what is before and after them, and every weight, is the same object."""
        attend, sides = self._attend(net, settings.attention), net.encoder.pos_embed.shape[1:3]
        own, own.encoder = _shallow(net), _shallow(net.encoder)
        blocks = [_shallow(block) for block in net.encoder.blocks]
        if attend:
            for block in blocks:
                block.attn = Attention(block.attn, attend, tables, sides)
        if settings.packed:
            try:
                blocks = [PackedBlock(block) for block in blocks]
            except (AttributeError, RuntimeError) as error:  # torch without oneDNN, or oneDNN without this precision
                why = str(error).splitlines()[0]
                self.notes.append(f"packed is not possible, so the layers ran as they are: {why}")
        own.encoder.blocks = nn.ModuleList(blocks)
        return own

    def _attend(self, net: Any, name: str) -> Attend | None:
        if name != "flash":
            return {"stock": None, "fused": attention.fused, "joined": attention.joined}[name]
        first = net.encoder.blocks[0].attn
        side, depth = net.encoder.pos_embed.shape[1], first.qkv.in_features // first.num_heads
        try:
            self._flash = attention.Flash(self._dtype, side, depth, torch.get_num_threads())
        except CellbenchError as error:
            self.notes.append(f"flash is not possible, so fused attention ran: {error.what}; {error.fix}")
            return attention.fused
        return self._flash


class Attention(nn.Module):
    """Stock's attention with its layers, computed in another way; the tables of positions are made once."""

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, stock: Any, attend: Attend, tables: Tables, sides: tuple[int, int]) -> None:
        super().__init__()
        self.qkv, self.proj, self._attend, self._n_heads = stock.qkv, stock.proj, attend, stock.num_heads
        made = [tables(side, side, each) for side, each in zip(sides, (stock.rel_pos_h, stock.rel_pos_w), strict=True)]
        prepared = map(attention.as_flash, made) if isinstance(attend, attention.Flash) else made
        for name, table in zip(("rows", "columns"), prepared, strict=True):
            self.register_buffer(name, table.detach(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (n, height, width, channels)."""
        found = self._attend(self.qkv(x).flatten(1, 2), self.rows, self.columns, self._n_heads)
        return self.proj(found.view(x.shape))


class PackedBlock(nn.Module):
    """Stock's block with packed layers, and with GELU and both sums where oneDNN has the numbers at hand."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        if not isinstance(stock.mlp.act, nn.GELU) or stock.mlp.act.approximate != "none":
            raise RuntimeError(f"its activation is {stock.mlp.act}")
        self._norm1, self._norm2, self._attn = stock.norm1, stock.norm2, _shallow(stock.attn)
        self._proj = Packed(self._attn.proj)
        self._attn.qkv, self._attn.proj = Packed(self._attn.qkv), nn.Identity()
        self._up, self._down = Packed(stock.mlp.lin1, "gelu"), Packed(stock.mlp.lin2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (n, height, width, channels)."""
        x = self._proj.added(self._attn(self._norm1(x)), x)
        return self._down.added(self._up(self._norm2(x)), x)


class Packed(nn.Module):
    """A linear layer whose weights oneDNN holds in its own layout, and what oneDNN does with each sum at once."""

    def __init__(self, layer: Any, then: str = "none") -> None:
        super().__init__()
        self._bias, self._then = layer.bias.detach(), then
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any number of axes, the last of which are the channels."""
        # The last word is GELU's formula: the exact one, as stock's.
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, self._then, [], "none")

    def added(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The layer's result + other."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, "add")


def _shallow(module: Any) -> Any:
    """A module of the same class with the same children, which can be given others."""
    made = copy.copy(module)
    for name in ("_modules", "_parameters", "_buffers"):
        made.__dict__[name] = dict(module.__dict__[name])
    return made
