"""The whole network on a CPU with Winograd's convolutions, in code that is compiled once a machine.

Tensors have channels last from the first layer to the last, and every norm, ReLU, style, sum and upsampling is part of
the convolution next to it (winograd.cpp), so that each layer reads its input once and writes its output once.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from harness.engines.cellpose.variants import native

# Weights (3 × 3) → their values at 0, ±1/√2, ±√2 and ∞ in each direction, as winograd.cpp has those of the input.
POINTS = (0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))
TO_POINTS = np.array(
    [[p**k / np.prod([p - q for q in POINTS if q != p]) for k in range(3)] for p in POINTS] + [[0, 0, 1]]
)


class Layer(ctypes.Structure):
    """The struct Layer of winograd.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "y", "scale", "shift", "weights", "bias", "residual", "out")),
        *((name, ctypes.c_int64) for name in ("n", "height", "width", "n_in", "n_out", "x_shift", "residual_shift")),
    ]


class Network:
    """A CPnet's forward pass for tiles (n, channels, height, width) float32; weights are copied."""

    def __init__(self, net: Any, n_threads: int) -> None:
        engine = Engine(n_threads)
        self._engine = engine
        self._down = [Block(block, engine) for block in net.downsample.down]
        self._up = [Block(block, engine) for block in net.upsample.up]
        norm, _, conv = net.output
        self._scale, self._shift = affine(norm)
        self._weights, self._bias = conv.weight[:, :, 0, 0].T.contiguous(), conv.bias
        self._to_style = net.make_style

    def __call__(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Flows and probability (n, 3, height, width), style (n, 256)."""
        levels = self._descend(tiles)
        style = self._style(levels[-1])
        x = levels[-1]
        for block, skipped in zip(self._up[::-1], levels[::-1], strict=True):
            x = block(x, skipped, style)
        seen = torch.addcmul(self._shift, x, self._scale).relu_()
        return (seen @ self._weights + self._bias).permute(0, 3, 1, 2), style

    def style(self, tiles: torch.Tensor) -> torch.Tensor:
        """Style (n, 256) alone."""
        return self._style(self._descend(tiles)[-1])

    def close(self) -> None:
        """End the threads."""
        self._engine.close()

    def _descend(self, tiles: torch.Tensor) -> list[torch.Tensor]:
        x, levels = tiles.permute(0, 2, 3, 1).contiguous(), []
        for block in self._down:
            levels.append(block(x))
            x = functional.max_pool2d(levels[-1].permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        return levels

    def _style(self, deepest: torch.Tensor) -> torch.Tensor:
        return self._to_style(deepest.permute(0, 3, 1, 2))


class Engine:
    """The compiled convolution, threads to share it, and memory that one layer after another writes to."""

    def __init__(self, n_threads: int) -> None:
        self._library, self._threads = compiled(), native.Threads(n_threads)
        self._memory: dict[tuple[object, ...], torch.Tensor] = {}
        self.columns = int(self._library.columns())

    def run(self, layer: Layer) -> None:
        """All blocks of one layer, by all threads."""
        self._threads.run(self._library.convolve, layer)

    def memory(self, owner: object, shape: tuple[int, ...]) -> torch.Tensor:
        """A tensor that belongs to the owner until its next call; new memory would cost a page fault every 4 kB."""
        n, *rest = shape
        key = (owner, *rest)
        if key not in self._memory or len(self._memory[key]) < n:
            self._memory[key] = torch.empty(shape)
        return self._memory[key][:n]

    def close(self) -> None:
        self._threads.close()
        self._memory.clear()


class Block:
    """Four convolutions with two sums around them, descending or ascending."""

    def __init__(self, block: Any, engine: Engine) -> None:
        norm, conv = block.proj
        scale, shift = affine(norm)
        weights = conv.weight[:, :, 0, 0]
        self._weights = (weights * scale).T.contiguous()
        self._convolutions = [Convolution(each, engine) for each in block.conv]
        self._convolutions[1].bias += conv.bias + weights @ shift  # the projection's own, as both are added
        self._engine = engine

    def __call__(
        self, x: torch.Tensor, skipped: torch.Tensor | None = None, style: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tensors (n, height, width, channels); x may have half the height and width of what was skipped."""
        first, second, third, fourth = self._convolutions
        size = (x if skipped is None else skipped).shape[1:3]
        n_in, n_out = self._weights.shape
        # A 1 × 1 projection of an enlarged image is the enlarged projection.
        projected = self._engine.memory("projected", (*x.shape[:3], n_out))
        torch.mm(x.reshape(-1, n_in), self._weights, out=projected.view(-1, n_out))
        shape = (len(x), *size, n_out)
        a, b, out = (self._engine.memory(owner, shape) for owner in ("a", "b", self))
        second(first(x, a), b, skipped, style, projected)
        return fourth(third(b, a, None, style), out, None, style, b)


class Convolution:
    """Norm, ReLU and a 3 × 3 convolution, with what is added before and after."""

    def __init__(self, layer: Any, engine: Engine) -> None:
        norm, _, conv = getattr(layer, "conv", layer)
        self._scale, self._shift = affine(norm)
        self._full: Any = getattr(layer, "full", None)
        self._conv, self._engine = conv, engine
        n_out, n_in = conv.weight.shape[:2]
        self._is_plain = bool(n_in % engine.columns or n_out % engine.columns)  # the image's own channels
        self.bias = conv.bias.clone()
        if not self._is_plain:
            self._weights = packed(conv.weight.numpy(), engine.columns)

    def __call__(
        self,
        x: torch.Tensor,
        out: torch.Tensor,
        y: torch.Tensor | None = None,
        style: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """relu(norm(x + y + style)) convolved, + residual, into out; x and residual may have half its size."""
        if self._is_plain:
            seen = torch.addcmul(self._shift, x, self._scale).relu_().permute(0, 3, 1, 2)
            return out.copy_(self._conv(seen).permute(0, 2, 3, 1))
        shift = self._shift.expand(len(x), -1)
        if style is not None:
            shift = torch.addcmul(shift, self._full(style), self._scale)
        shift = shift.contiguous()
        n, height, width, n_out = out.shape
        at = [None if each is None else each.data_ptr()
              for each in (x, y, self._scale, shift, self._weights, self.bias, residual, out)]  # fmt: skip
        halved = [int(each is not None and each.shape[1] < height) for each in (x, residual)]
        self._engine.run(Layer(*at, n, height, width, x.shape[-1], n_out, *halved))
        return out


def affine(norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch norm as what it multiplies by and what it adds."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def packed(weights: np.ndarray, columns: int) -> torch.Tensor:
    """Weights (n_out, n_in, 3, 3) → their values at the points, (n_out / columns, 36, n_in, columns)."""
    n_out, n_in = weights.shape[:2]
    values = np.einsum("ik,ockl,jl->ijco", TO_POINTS, weights.astype(np.float64), TO_POINTS)
    blocks = values.reshape(36, n_in, n_out // columns, columns).transpose(2, 0, 1, 3)
    return torch.from_numpy(np.ascontiguousarray(blocks, np.float32))


@cache
def compiled() -> ctypes.CDLL:
    """winograd.cpp for this very processor; CellbenchError where it cannot be compiled."""
    library = native.compiled("harness.engines.cellpose3.variants", "winograd.cpp")
    library.convolve.argtypes = (ctypes.POINTER(Layer), ctypes.POINTER(ctypes.c_int64))
    return library
