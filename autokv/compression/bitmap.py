"""Which tokens were kept, as one bit per token of the context."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.kept import KeptTokens


def encode_kept(kept: KeptTokens, tokens: int) -> Tensor:
    """uint8 ``[rows, ceil(tokens / 8)]``: bit ``p % 8`` of byte ``p // 8`` is set if position ``p`` stays."""
    rows, width = len(kept.offsets) - 1, -(-tokens // 8)
    bits = torch.zeros(rows * width * 8, dtype=torch.uint8, device=kept.positions.device)
    starts = torch.arange(0, rows * width * 8, width * 8, device=kept.positions.device)
    bits[kept.positions + starts.repeat_interleave(kept.offsets.diff())] = 1
    return pack_bits(bits.view(rows, -1))


def pack_bits(bits: Tensor) -> Tensor:
    """uint8 ``[rows, n]`` of zeros and ones, n a multiple of 8, to ``[rows, n / 8]``, lowest bit first."""
    weights = 1 << torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (bits.view(len(bits), -1, 8) * weights).sum(-1, dtype=torch.uint8)


def decode_kept(bitmap: Tensor) -> Tensor:
    """int64 positions, ascending, from one row of :func:`encode_kept`, uint8 ``[bytes]``."""
    places = torch.arange(8, dtype=torch.uint8, device=bitmap.device)
    return (bitmap[:, None] >> places & 1).view(-1).nonzero().view(-1)
