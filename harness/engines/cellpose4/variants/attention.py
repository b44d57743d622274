"""Attention with decomposed relative positions in three other ways; each takes the output of the linear layer.

Shapes: qkv (n, tokens, 3 · heads · depth); tables (side of the query, side of the key, depth); result (n, tokens,
heads · depth). A tile has side × side tokens.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch.nn import functional

from harness.engines.cellpose.variants import native
from harness.errors import CellbenchError

SIDE, DEPTH = 32, 64  # what attention.cpp is written for: a tile of 256 px, the heads of ViT-L
FUNCTIONS = {torch.float32: "attend_float32", torch.bfloat16: "attend_bfloat16"}


def fused(qkv: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, n_heads: int) -> torch.Tensor:
    """torch's fused attention; the position terms are its mask (n, heads, tokens, tokens)."""
    q, k, v, on_rows, on_columns = _with_terms(qkv, rows, columns, n_heads)
    mask = (on_rows[..., :, None] + on_columns[..., None, :]).flatten(-2)
    return _merged(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask))


def joined(qkv: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, n_heads: int) -> torch.Tensor:
    """torch's fused attention without a mask.

    A query is followed by its terms for each row and column of keys, a key by a one at its own row and column, so that
    their product holds the sum of both. Values are padded to the same depth, which fused kernels require.
    """
    q, k, v, on_rows, on_columns = _with_terms(qkv, rows, columns, n_heads)
    n, heads, tokens, depth = q.shape
    q = torch.cat((q * depth**-0.5, on_rows, on_columns), dim=-1)
    at = torch.cat(_one_hot(rows.shape[1], columns.shape[1], q.device, q.dtype), dim=-1)
    k = torch.cat((k, at.expand(n, heads, tokens, -1)), dim=-1)
    v = functional.pad(v, (0, k.shape[-1] - depth))
    return _merged(functional.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :depth])


def _with_terms(qkv: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, n_heads: int) -> tuple[torch.Tensor, ...]:
    """Queries, keys, values (n, heads, tokens, depth); their terms for rows and columns (n, heads, tokens, side)."""
    n, tokens, _ = qkv.shape
    q, k, v = qkv.view(n, tokens, 3, n_heads, -1).permute(2, 0, 3, 1, 4)
    there = q.reshape(n, n_heads, rows.shape[0], columns.shape[0], -1)
    on_rows = torch.einsum("nayxc,ykc->nayxk", there, rows).flatten(2, 3)
    on_columns = torch.einsum("nayxc,xkc->nayxk", there, columns).flatten(2, 3)
    return q, k, v, on_rows, on_columns


def _one_hot(height: int, width: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of each token, (tokens, height) and (tokens, width)."""
    row = torch.eye(height, device=device, dtype=dtype).repeat_interleave(width, dim=0)
    return row, torch.eye(width, device=device, dtype=dtype).repeat(height, 1)


def _merged(found: torch.Tensor) -> torch.Tensor:
    return found.transpose(1, 2).flatten(2)


class _Attention(ctypes.Structure):
    """The struct Attention of attention.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("qkv", "rows", "columns", "out")),
        ("n", ctypes.c_int64), ("n_heads", ctypes.c_int64), ("scale", ctypes.c_float),
    ]  # fmt: skip


class Flash:
    """Attention in this project's own code, for one number format; CellbenchError where it is not available."""

    def __init__(self, dtype: torch.dtype, side: int, depth: int, n_threads: int) -> None:
        if dtype not in FUNCTIONS or (side, depth) != (SIDE, DEPTH):
            what = f"the compiled attention is not for {dtype}, {side} × {side} tokens and heads of {depth}"
            raise CellbenchError(what, "--variant", "leave flash out")
        self._function = getattr(_library(), FUNCTIONS[dtype])
        self._threads = native.Threads(n_threads)

    def __call__(self, qkv: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, n_heads: int) -> torch.Tensor:
        """rows and columns: from as_flash()."""
        n, tokens, width = qkv.shape
        qkv, out = qkv.contiguous(), qkv.new_empty(n, tokens, width // 3)
        at = [each.data_ptr() for each in (qkv, rows, columns, out)]
        self._threads.run(self._function, _Attention(*at, n, n_heads, DEPTH**-0.5))
        return out

    def close(self) -> None:
        """End the threads."""
        self._threads.close()


def as_flash(table: torch.Tensor) -> torch.Tensor:
    """A table in the format of attention.cpp: (side of the query, depth, side of the key) float32."""
    return table.detach().float().transpose(1, 2).contiguous()


@cache
def _library() -> Any:
    return native.compiled("harness.engines.cellpose4.variants", "attention.cpp", "flash")
