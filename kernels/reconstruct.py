"""Tokens out of their compressed form."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.kernels.hadamard import rotate
from autokv.kernels.operands import Operands, Side
from autokv.kernels.quantize_pack import dequantize
from autokv.kernels.rows import Rows


def reconstruct(side: Side, older: Rows) -> Tensor:
    """The older tokens, float32 ``[rows, longest, head_dim]``; places beyond a row's end hold no meaning."""
    coordinates = dequantize(side.packed, older)
    if side.low_rank_residual is not None:
        left = older.to_dense(side.low_rank_residual.left).float()
        coordinates = torch.baddbmm(coordinates, left, side.low_rank_residual.right.float().mT)
    if side.basis is not None:
        return coordinates @ side.basis.float().mT
    return rotate(coordinates) if side.rotated else coordinates


def materialize(held: Operands, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values ``[batch, kv_heads, longest, head_dim]`` in ``dtype``, and :attr:`Operands.lengths`.

    Every head's tokens come first, oldest first; zeros fill up to the longest head.
    """
    return _dense(held, held.keys, dtype), _dense(held, held.values, dtype), held.lengths


def _dense(held: Operands, side: Side, dtype: torch.dtype) -> Tensor:
    older, window = held.older, side.residual_window
    longest = older.longest + held.residual_tokens
    tokens = torch.empty(older.count, longest, held.head_dim, dtype=dtype, device=window.device)
    rebuilt, inside = reconstruct(side, older), older.inside()
    if inside is None:
        tokens[:, : older.longest] = rebuilt
        tokens[:, older.longest :] = window
    else:
        torch.mul(rebuilt, inside[:, :, None], out=rebuilt)
        tokens[:, : older.longest] = rebuilt
        tokens[:, older.longest :] = 0
        starts = torch.arange(0, older.count * longest, longest, device=tokens.device) + older.lengths
        places = starts[:, None] + torch.arange(held.residual_tokens, device=tokens.device)
        tokens.view(-1, held.head_dim).index_copy_(0, places.view(-1), window.to(dtype).flatten(0, 1))
    return tokens.view(held.batch, held.kv_heads, longest, held.head_dim)
