"""Softmax attention of the newest tokens, which SnapKV and TOVA read."""

from __future__ import annotations

from torch import Tensor

from autokv.compression.context import LayerContext
from autokv.compression.eviction.base import required
from autokv.errors import ConfigError


def window_attention(keys: Tensor, context: LayerContext, window: int) -> Tensor:
    """Causal attention of the last ``window`` tokens over the whole context, summed over them.

    Args:
        keys: ``[batch, kv_heads, tokens, head_dim]``.
        context: gives ``window_queries``, of which the newest ``window`` are used, and the scaling of q·k.
        window: how many of the newest tokens attend.

    Returns:
        ``[batch, kv_heads, tokens]`` float32, the mean over the query heads of a KV head.

    Raises:
        ConfigError: the queries are missing or fewer than ``window``.
    """
    queries = required(context.statistics.window_queries, "window_queries")
    available = min(queries.shape[2], keys.shape[2])
    if available < window:
        raise ConfigError(
            f"asks for the queries of the last {window} tokens, but {available} are at hand",
            field="pipeline.eviction.options.window",
            remedy=f"use a window of at most {available}, or a longer context",
        )
    kernels = context.kernels_on(keys.device)
    return kernels.window_scores(queries[:, :, -window:], keys, context.scaling, softcap=context.softcap)
