"""Which tokens of a layer stay: chosen, as one bit per token of the context, and divided into older and newest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from autokv.kernels import Backend, Rows


@dataclass(frozen=True)
class KeptTokens:
    """Kept positions of every row, uniform or ragged; a row is one KV head of one batch item."""

    positions: Tensor
    """``[N]`` int64: the positions of row 0, ascending, then those of row 1, and so on."""
    offsets: Tensor
    """``[rows + 1]`` int64: row ``r`` owns ``positions[offsets[r] : offsets[r + 1]]``."""

    @classmethod
    def from_mask(cls, mask: Tensor) -> Self:
        """``mask``: ``[batch, kv_heads, tokens]`` bool, true where a token stays."""
        positions = mask.reshape(-1).nonzero().squeeze(1) % mask.shape[-1]
        return cls(positions, F.pad(mask.sum(-1).flatten().cumsum(0), (1, 0)))


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


@dataclass(frozen=True)
class TokenSplit:
    """Where the older tokens and the residual window of every row lie in ``[rows, tokens, head_dim]``."""

    older: Rows
    older_index: Tensor | None
    """int64 ``[rows, older.longest]``: positions; None if every token is kept."""
    window_index: Tensor | None

    def __call__(self, tokens: Tensor, kernels: Backend) -> tuple[Tensor, Tensor]:
        """Divide ``[rows, tokens, head_dim]`` into older ``[rows, longest, head_dim]`` and the residual window.

        Places beyond a row's end repeat its last older token. The results may be views.
        """
        if self.older_index is None or self.window_index is None:
            return tokens[:, : self.older.longest], tokens[:, self.older.longest :]
        return kernels.evict_gather(tokens, self.older_index), kernels.evict_gather(tokens, self.window_index)


def split_tokens(kept: KeptTokens | None, rows: int, tokens: int, residual_tokens: int) -> TokenSplit:
    """``kept`` is None if all ``tokens`` of every row stay; no residual window is longer than the shortest row."""
    if kept is None:
        return TokenSplit(Rows(rows, tokens - min(residual_tokens, tokens)), None, None)
    lengths, device = kept.offsets.diff(), kept.offsets.device
    recent = min(residual_tokens, int(lengths.min()))
    older = Rows.of_lengths(lengths - recent)
    last = (lengths - recent - 1).clamp_min_(0)
    place = torch.minimum(torch.arange(older.longest, device=device), last[:, None]) + kept.offsets[:-1, None]
    window_place = torch.arange(recent, device=device) + (kept.offsets[1:, None] - recent)
    older_index, window_index = (
        kept.positions.index_select(0, where.view(-1)).view(rows, -1) for where in (place, window_place)
    )
    return TokenSplit(older, older_index, window_index)
