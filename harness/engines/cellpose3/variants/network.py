"""The network, executed differently: same weights, other layout, precision, fusion or grouping."""

from __future__ import annotations

import copy
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from harness.engines.cellpose.variants import compilation
from harness.engines.cellpose.variants.compilation import Outputs
from harness.engines.cellpose3.variants import winograd
from harness.engines.cellpose3.variants.settings import Settings
from harness.errors import CellbenchError

TILE_PX = 224  # the only tile size that is compiled; images smaller than a tile take the plain way


class Runner:
    """core._forward for one model: a private copy of its network, prepared for the settings."""

    def __init__(self, net: Any, weights_file: str, settings: Settings) -> None:
        self._settings, self._device = settings, net.device
        self.notes: list[str] = []
        self.n_compiled = 0  # tiles that went through what was compiled, in all calls
        own = dense_copy(net, weights_file) if settings.is_dense else net
        if settings.folded:
            fold(own)
        if settings.channels_last:
            own = own.to(memory_format=torch.channels_last)
        self._net, self._compiled, self._winograd = own.eval(), None, None  # as stock's own first call would leave it
        if settings.winograd:
            try:
                with torch.no_grad():
                    self._winograd = winograd.Network(self._net, torch.get_num_threads())
            except CellbenchError as error:
                self.notes.append(f"winograd is not possible, so the network ran without it: {error.what}; {error.fix}")
        if settings.compiled or settings.cuda_graphs:
            self._compiled = compilation.compiled(own, self._device.type, settings.cuda_graphs)

    def __call__(self, tiles: Any, batch_size: int, is_style_only: bool = False) -> tuple[Any, Any]:
        """Tiles (n, channels, height, width) float32 → flows and probability (n, 3, height, width), style (n, 256).

        Arrays for an array; for a tensor tensors on the device, which may still compute them. is_style_only: the
        descending half of the network gives the style; the flows are one 0.
        """
        x = torch.as_tensor(tiles)
        found = self._style(x) if is_style_only else self._flows(x, batch_size)
        return found if x is tiles else (found[0].cpu().numpy(), found[1].cpu().numpy())

    def close(self) -> None:
        """Release threads and memory."""
        if self._winograd:
            self._winograd.close()

    def _flows(self, tiles: torch.Tensor, batch_size: int) -> Outputs:
        if self._winograd:
            return self._pass(self._winograd, tiles)
        if self._compiled is None or tiles.shape[-2:] != (TILE_PX, TILE_PX):
            return self._pass(self._net, tiles)
        # One shape only, since each new one is compiled again: a CPU is as fast tile by tile, a GPU gets full batches.
        n = 1 if self._device.type == "cpu" else batch_size
        try:
            found = compilation.in_batches(partial(self._pass, self._compiled), tiles, n, is_padded=True)
        except Exception as error:  # a compiler may raise anything; the network itself works
            self._compiled = None
            self.notes.append(compilation.failure(error))
            return self._pass(self._net, tiles)
        self.n_compiled += len(tiles)
        return found

    def _style(self, tiles: torch.Tensor) -> Outputs:
        net, flows = self._net, torch.zeros(1)
        with torch.no_grad(), self._precision():
            x = self._input(tiles)
            if self._winograd:
                return flows, self._winograd.style(x)
            x = x.to_mkldnn() if net.mkldnn else x
            deepest = (self._mkldnn(net) if net.mkldnn else net).downsample(x)[-1]
            style = net.make_style(deepest.to_dense() if net.mkldnn else deepest)
        return flows, style.float()

    def _pass(self, net: Any, tiles: torch.Tensor) -> Outputs:
        if net is self._net and net.mkldnn:
            net = self._mkldnn(net)
        with torch.no_grad(), self._precision(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # inductor's warnings about this GPU or that compiler
            flows, style = net(self._input(tiles))[:2]
        # The next replay of a CUDA graph overwrites its outputs.
        flows, style = (each.to(torch.float32, copy=self._settings.cuda_graphs) for each in (flows, style))
        return flows, style

    def _mkldnn(self, net: Any) -> Any:
        from torch.utils import mkldnn

        return mkldnn.to_mkldnn(net)

    def _input(self, tiles: torch.Tensor) -> torch.Tensor:
        x = tiles.to(self._device, dtype=torch.float32)
        return x.contiguous(memory_format=torch.channels_last) if self._settings.channels_last else x

    def _precision(self) -> AbstractContextManager[Any]:
        if self._settings.dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, getattr(torch, self._settings.dtype))


def dense_copy(net: Any, weights_file: str) -> Any:
    """The network with ordinary tensors, the original untouched.

    On a CPU stock cellpose's first call turns the layers of its network into mkldnn's own, in place, and they do not
    turn back: then the weights are read from their file again.
    """
    if any(isinstance(layer, torch.jit.ScriptModule) for layer in net.modules()):
        own = type(net)(list(net.nbase), net.nout, net.sz, mkldnn=False, conv_3D=net.conv_3D)
        own.load_model(weights_file, device=net.device)
        own = own.to(net.device)
    else:
        own = copy.deepcopy(net)
    own.mkldnn = False
    return own.eval()


def fold(net: Any) -> None:
    """Fold every batch norm into a convolution where their order allows it, in place.

    The network is pre-activated (norm, ReLU, convolution), so a norm can go into the convolution before it, where
    nothing is added between the two; and into the 1 × 1 projections, which have no ReLU.
    """
    for block in net.downsample.down:
        _into_next(block.proj)
        _into_previous(block.conv[0], block.conv[1])
        _into_previous(block.conv[2], block.conv[3])
    for block in net.upsample.up:
        _into_next(block.proj)
        _into_previous(block.conv[2].conv, block.conv[3].conv, block.conv[3].full)


@torch.no_grad()
def _into_next(proj: Any) -> None:
    """norm → 1 × 1 convolution."""
    norm, conv = proj
    scale, shift = winograd.affine(norm)
    conv.bias += conv.weight[:, :, 0, 0] @ shift
    conv.weight *= scale[None, :, None, None]
    proj[0] = nn.Identity()


@torch.no_grad()
def _into_previous(before: Any, after: Any, style: Any = None) -> None:
    """convolution (plus a style vector) → norm."""
    scale, shift = winograd.affine(after[0])
    conv = before[2]
    conv.weight *= scale[:, None, None, None]
    conv.bias *= scale
    if style is None:
        conv.bias += shift
    else:
        style.weight *= scale[:, None]
        style.bias.mul_(scale).add_(shift)
    after[0] = nn.Identity()
