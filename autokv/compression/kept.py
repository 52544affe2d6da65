"""Which tokens of a layer stay: the one representation of uniform and ragged heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class KeptTokens:
    """Kept positions of every row; a row is one KV head of one batch item, ``batch * kv_heads`` of them."""

    positions: Tensor
    """``[N]`` int64: the positions of row 0, ascending, then those of row 1, and so on."""
    offsets: Tensor
    """``[rows + 1]`` int64: row ``r`` owns ``positions[offsets[r] : offsets[r + 1]]``."""

    @classmethod
    def from_mask(cls, mask: Tensor) -> Self:
        """``mask``: ``[batch, kv_heads, tokens]`` bool, true where a token stays."""
        positions = mask.reshape(-1).nonzero().squeeze(1) % mask.shape[-1]
        return cls(positions, F.pad(mask.sum(-1).flatten().cumsum(0), (1, 0)))
