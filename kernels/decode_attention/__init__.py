"""Decode attention: the queries of one step against a compressed cache, and what every backend makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from autokv.kernels.operands import Operands


class Attention(NamedTuple):
    """Attention over some tokens, in the form that merges with attention over others."""

    output: Tensor
    """``[batch, query_heads, head_dim]``; zeros where there was no token."""
    lse: Tensor
    """float32 ``[batch, query_heads]``: logarithm of the sum of exponentials of the scores; -inf for no token."""


class DecodeAttention(Protocol):
    """Attention over a compressed cache, read as it is stored."""

    def __call__(
        self,
        query: Tensor,
        parts: Sequence[Operands],
        scaling: float,
        *,
        softcap: float | None = None,
        sliding_window: int | None = None,
    ) -> Attention:
        """Attend from the newest position to every token of ``parts``.

        Args:
            query: ``[batch, query_heads, head_dim]``, after RoPE; head ``h`` reads KV head
                ``h // (query_heads / kv_heads)``, so more queries than one per head are more query heads.
            parts: at least one, oldest tokens first, all of the same batch, KV heads and head_dim.
            scaling: multiplies q·k.
            softcap: scores become ``softcap * tanh(score / softcap)``.
            sliding_window: only that many of a row's newest tokens, counted over all parts, are seen.

        Returns:
            The output in the query's dtype, accumulated in float32.
        """


def merge(attentions: Sequence[Attention]) -> Attention:
    """Attention over all the tokens that ``attentions`` are over, which must be disjoint."""
    if len(attentions) == 1:
        return attentions[0]
    every = torch.stack([attention.lse for attention in attentions])
    lse = every.logsumexp(dim=0)
    weights = (every - lse.clamp_min(torch.finfo(torch.float32).min)).exp()
    output = sum(
        attention.output.float() * weight[..., None] for attention, weight in zip(attentions, weights, strict=True)
    )
    return Attention(torch.as_tensor(output).to(attentions[0].output.dtype), lse)
