"""Softmax attention of the newest tokens, which SnapKV and TOVA read."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.context import LayerContext
from autokv.compression.eviction.base import required
from autokv.errors import ConfigError


def window_attention(keys: Tensor, context: LayerContext, window: int) -> Tensor:
    """Causal attention of the last ``window`` tokens over the whole context, computed in float32.

    Args:
        keys: ``[batch, kv_heads, tokens, head_dim]``.
        context: gives ``window_queries``, of which the newest ``window`` are used, and the scaling of q·k.
        window: how many of the newest tokens attend.

    Returns:
        ``[batch, kv_heads, group, window, tokens]`` float32; ``group`` counts the query heads of a KV head.

    Raises:
        ConfigError: the queries are missing or fewer than ``window``.
    """
    queries = required(context.statistics.window_queries, "window_queries")
    batch, kv_heads, tokens, head_dim = keys.shape
    available = min(queries.shape[2], tokens)
    if available < window:
        raise ConfigError(
            f"asks for the queries of the last {window} tokens, but {available} are at hand",
            field="pipeline.eviction.options.window",
            remedy=f"use a window of at most {available}, or a longer context",
        )
    rows = queries[:, :, -window:].float().reshape(batch, kv_heads, -1, head_dim)
    logits = ((rows * context.scaling) @ keys.float().mT).view(batch, kv_heads, -1, window, tokens)
    unseen = torch.ones(window, window, dtype=torch.bool, device=keys.device).triu(1)
    logits[..., tokens - window :].masked_fill_(unseen, -torch.inf)
    return logits.softmax(dim=-1)
