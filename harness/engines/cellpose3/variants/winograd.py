"""The whole network on a CPU with Winograd's convolutions, in code that is compiled once a machine.

Tensors have channels last from the first layer to the last, and every norm, ReLU, style, sum and upsampling is part of
the convolution next to it (winograd.cpp), so that each layer reads its input once and writes its output once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Layer:
    """One convolution: its operands and its results, which winograd.cpp describes."""

    x: torch.Tensor
    y: torch.Tensor | None
    scale: torch.Tensor | None
    shift: torch.Tensor | None
    weights: torch.Tensor
    bias: torch.Tensor
    residual: torch.Tensor | None
    out: torch.Tensor
    pooled: torch.Tensor | None
    depth: int
    side: int

    def native(self) -> _Layer:
        """The struct Layer; this object must live until it has been used."""
        n, height, width, n_out = self.out.shape
        halved = [int(each is not None and each.shape[1] < height) for each in (self.x, self.residual)]
        at = [None if (each := getattr(self, name)) is None else each.data_ptr() for name in OPERANDS]
        return _Layer(*at, n, height, width, self.x.shape[-1], self.depth, n_out, *halved, self.side)


OPERANDS = ("x", "y", "scale", "shift", "weights", "bias", "residual", "out", "pooled")
SIZES = ("n", "height", "width", "n_in", "depth", "n_out", "x_shift", "residual_shift", "side")


class _Layer(ctypes.Structure):
    """The struct Layer of winograd.cpp."""

    _fields_ = [*((name, ctypes.c_void_p) for name in OPERANDS), *((name, ctypes.c_int64) for name in SIZES)]


class _Network(ctypes.Structure):
    """The struct Network of winograd.cpp."""

    _fields_ = [("layers", ctypes.POINTER(_Layer)), ("n_layers", ctypes.c_int64)]


BLOCKS_PER_THREAD = 4  # at least; with fewer, a thread would often wait for the last block of another


class Network:
    """A CPnet's forward pass for tiles (n, channels, height, width) float32; weights are copied."""

    def __init__(self, net: Any, n_threads: int) -> None:
        self._engine = engine = Engine(n_threads)
        self._down = [Block(block, engine) for block in net.downsample.down]
        self._up = [Block(block, engine) for block in net.upsample.up]
        self._output = Convolution(net.output, engine)

    def __call__(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Flows and probability (n, 3, height, width), style (n, 256)."""
        levels = self._descend(tiles)
        style, layers, x = style_of(levels[-1]), list[Layer](), levels[-1]
        for block, skipped in zip(self._up[::-1], levels[::-1], strict=True):
            x = block(layers, x, skipped, style)
        n, _, height, width = tiles.shape
        out = torch.empty(n, height, width, self._output.n_out)
        layers.append(self._output(x, out))
        self._engine.run(layers)
        return out.permute(0, 3, 1, 2), style

    def style(self, tiles: torch.Tensor) -> torch.Tensor:
        """Style (n, 256) alone."""
        return style_of(self._descend(tiles)[-1])

    def close(self) -> None:
        """End the threads."""
        self._engine.close()

    def _descend(self, tiles: torch.Tensor) -> list[torch.Tensor]:
        n, n_channels, height, width = tiles.shape
        x = self._engine.memory("tiles", (n, height, width, self._engine.lanes))
        x.numpy()[..., :n_channels] = tiles.permute(0, 2, 3, 1).numpy()
        layers, levels = list[Layer](), list[torch.Tensor]()
        for block in self._down[:-1]:
            pooled = self._engine.memory("pooled", (n, x.shape[1] // 2, x.shape[2] // 2, block.n_out))
            levels.append(block(layers, x, pooled=pooled))
            x = pooled
        levels.append(self._down[-1](layers, x))
        self._engine.run(layers)
        return levels


class Engine:
    """The compiled convolutions, threads to share them, and memory that one layer after another writes to."""

    def __init__(self, n_threads: int) -> None:
        self._library, self._threads = compiled(), native.Threads(n_threads)
        self._n_threads = n_threads
        self._memory: dict[tuple[object, ...], torch.Tensor] = {}
        self.columns, self.lanes = int(self._library.columns()), int(self._library.lanes())

    def run(self, layers: Sequence[Layer]) -> None:
        """The layers one after another, each by all threads."""
        # No call of torch comes between them: its threads spin for milliseconds afterwards, on the cores of these.
        network = _Network((_Layer * len(layers))(*(layer.native() for layer in layers)), len(layers))
        self._threads.run(self._library.run, network, n_counters=2 * len(layers))

    def n_together(self, height: int, width: int) -> int:
        """The number of tiles of this size to take at a time: enough for all threads, few enough for the caches."""
        return -(-BLOCKS_PER_THREAD * self._n_threads * int(self._library.pixels()) // (height * width))

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
        self._projection = Convolution(block.proj, engine)
        self._convolutions = [Convolution(each, engine) for each in block.conv]
        self._engine, self.n_out = engine, self._projection.n_out

    def __call__(
        self,
        layers: list[Layer],
        x: torch.Tensor,
        skipped: torch.Tensor | None = None,
        style: torch.Tensor | None = None,
        pooled: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Add the layers, return their result; x may have half the height and width of what was skipped.

        Tensors (n, height, width, channels). pooled: gets the largest of each 2 × 2 px of the result.
        """
        n, height, width, _ = (x if skipped is None else skipped).shape
        out = self._engine.memory(self, (n, height, width, self.n_out))
        step = self._engine.n_together(height, width)
        for some in (slice(i, i + step) for i in range(0, n, step)):
            tensors = (None if each is None else each[some] for each in (skipped, style, pooled))
            layers += self._layers(x[some], out[some], *tensors)
        return out

    def _layers(
        self,
        x: torch.Tensor,
        out: torch.Tensor,
        skipped: torch.Tensor | None,
        style: torch.Tensor | None,
        pooled: torch.Tensor | None,
    ) -> list[Layer]:
        first, second, third, fourth = self._convolutions
        # A 1 × 1 projection of an enlarged image is the enlarged projection.
        projected = self._engine.memory("projected", (*x.shape[:3], self.n_out))
        a, b = (self._engine.memory(owner, out.shape) for owner in ("a", "b"))
        return [
            self._projection(x, projected),
            first(x, a),
            second(a, b, skipped, style, projected),
            third(b, a, None, style),
            fourth(a, out, None, style, b, pooled),
        ]


class Convolution:
    """Norm, ReLU and a convolution, with what is added before and after."""

    def __init__(self, layer: Any, engine: Engine) -> None:
        norm, *others, conv = getattr(layer, "conv", layer)
        full = getattr(layer, "full", None)
        n_out, n_in, self._side, _ = conv.weight.shape
        weights, self._bias, (scale, shift) = conv.weight.numpy(), conv.bias, affine(norm)
        if not others:  # without a ReLU between, the norm is a part of the convolution
            self._bias = self._bias + conv.weight[:, :, 0, 0] @ shift
            weights = weights * scale[:, None, None].numpy()
        self._is_activated, self._depth, self.n_out = bool(others), n_in, n_out
        self._weights = packed(weights, engine.columns)
        # Channels are whole vectors; the image has two.
        pad = (0, -n_in % engine.lanes)
        self._scale, self._shift = functional.pad(scale, pad), functional.pad(shift, pad)
        self._of_style = None if full is None else (full.weight.numpy(), full.bias.numpy())

    def __call__(
        self,
        x: torch.Tensor,
        out: torch.Tensor,
        y: torch.Tensor | None = None,
        style: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
        pooled: torch.Tensor | None = None,
    ) -> Layer:
        """relu(norm(x + y + style)) convolved, + residual, into out; x and residual may have half its size."""
        shift = self._shift.repeat(len(x), 1)
        if style is not None and self._of_style is not None:
            # No product of a library: it would start threads that spin, too.
            added = np.einsum("nk,ok->no", style.numpy(), self._of_style[0]) + self._of_style[1]
            shift += self._scale * torch.from_numpy(added)
        scale, shift = (self._scale, shift) if self._is_activated else (None, None)
        return Layer(x, y, scale, shift, self._weights, self._bias, residual, out, pooled, self._depth, self._side)


def style_of(deepest: torch.Tensor) -> torch.Tensor:
    """Style (n, 256) of the deepest level (n, height, width, 256): its mean, of length 1."""
    style = deepest.numpy().mean(axis=(1, 2))
    return torch.from_numpy(style / np.sqrt((style**2).sum(axis=1, keepdims=True)))


def affine(norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch norm as what it multiplies by and what it adds."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def packed(weights: np.ndarray, columns: int) -> torch.Tensor:
    """Weights (n_out, n_in, 3, 3) → their values at the points, (n_out / columns, 36, n_in, columns); 1 × 1 as it is.

    The last block of columns is padded with 0.
    """
    n_out, n_in, side, _ = weights.shape
    to_points = TO_POINTS if side == 3 else np.ones((1, 1))
    values = np.einsum("ik,ockl,jl->ijco", to_points, weights.astype(np.float64), to_points)
    padded = np.pad(values.reshape(-1, n_in, n_out), ((0, 0), (0, 0), (0, -n_out % columns)))
    blocks = padded.reshape(*padded.shape[:2], -1, columns).transpose(2, 0, 1, 3)
    return torch.from_numpy(np.ascontiguousarray(blocks, np.float32))


@cache
def compiled() -> ctypes.CDLL:
    """winograd.cpp for this very processor; CellbenchError where it cannot be compiled."""
    library = native.compiled("harness.engines.cellpose3.variants", "winograd.cpp", "winograd")
    library.run.argtypes = (ctypes.POINTER(_Network), ctypes.POINTER(ctypes.c_int64))
    return library
