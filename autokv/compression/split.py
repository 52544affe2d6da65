"""The kept tokens of a layer, divided into the older ones and the newest, which stay in full precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autokv.compression.kept import KeptTokens
from autokv.kernels import Backend, Rows


@dataclass(frozen=True)
class TokenSplit:
    """Where the older tokens and the window of every row lie in ``[rows, tokens, head_dim]``."""

    older: Rows
    newest: int
    """Tokens of every row's window."""
    older_index: Tensor | None
    """int64 ``[rows, older.longest]``: positions; None if every token is kept."""
    newest_index: Tensor | None

    def __call__(self, tokens: Tensor, kernels: Backend) -> tuple[Tensor, Tensor]:
        """Divide ``[rows, tokens, head_dim]`` into older ``[rows, longest, head_dim]`` and the window.

        Places beyond a row's end repeat its last older token. The results may be views.
        """
        if self.older_index is None or self.newest_index is None:
            return tokens[:, : self.older.longest], tokens[:, self.older.longest :]
        return kernels.evict_gather(tokens, self.older_index), kernels.evict_gather(tokens, self.newest_index)


def split_tokens(kept: KeptTokens | None, rows: int, tokens: int, residual_tokens: int) -> TokenSplit:
    """``kept`` is None if all ``tokens`` of every row stay; no window is longer than the shortest row."""
    if kept is None:
        newest = min(residual_tokens, tokens)
        return TokenSplit(Rows(rows, tokens - newest), newest, None, None)
    lengths, device = kept.offsets.diff(), kept.offsets.device
    newest = min(residual_tokens, int(lengths.min()))
    older = Rows.of_lengths(lengths - newest)
    last = (lengths - newest - 1).clamp_min_(0)
    place = torch.minimum(torch.arange(older.longest, device=device), last[:, None]) + kept.offsets[:-1, None]
    newest_place = torch.arange(newest, device=device) + (kept.offsets[1:, None] - newest)
    older_index, newest_index = (
        kept.positions.index_select(0, where.view(-1)).view(rows, -1) for where in (place, newest_place)
    )
    return TokenSplit(older, newest, older_index, newest_index)
