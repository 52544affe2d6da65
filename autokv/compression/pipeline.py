"""The pipeline: eviction, then quantization, then low-rank."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from autokv.compression.budgets import layer_budgets, select
from autokv.compression.compressed import CompressedKV
from autokv.compression.context import LayerContext, StatisticsNeeded
from autokv.compression.encode import encode
from autokv.compression.eviction import scorer_of
from autokv.compression.kept import KeptTokens, encode_kept, split_tokens
from autokv.compression.quantization import prompt_window
from autokv.config import CompressionConfig, NoStage, Pipeline, check_fits
from autokv.kernels import Operands


def statistics_needed(config: CompressionConfig) -> StatisticsNeeded:
    """What of the prefill :func:`compress` needs to know for ``config``."""
    stage = config.pipeline.eviction
    return StatisticsNeeded() if isinstance(stage, NoStage) else scorer_of(stage).needs(stage)


@torch.no_grad()
def compress(
    keys: Tensor,
    values: Tensor,
    context: LayerContext,
    config: CompressionConfig,
    *,
    longest_window: int = sys.maxsize,
) -> CompressedKV:
    """Compress one layer's cache; ``keys`` and ``values`` are ``[batch, kv_heads, tokens, head_dim]`` after RoPE.

    No more than ``longest_window`` tokens go into the residual window.

    Raises:
        ConfigError: a rank or a group is wider than a token, or a statistic that the eviction needs is missing.
    """
    batch, kv_heads, tokens, head_dim = keys.shape
    # How many tokens there are refuses nothing here: a short context fills a part of a group.
    check_fits(config, head_dim=head_dim, context_tokens=sys.maxsize)
    pipeline, dtype, kernels = config.pipeline, context.storage_dtype(keys), context.kernels_on(keys.device)
    kept = _evict(keys, values, context, pipeline)
    recent = min(prompt_window(pipeline), longest_window)
    split = split_tokens(kept, batch * kv_heads, tokens, recent)
    return CompressedKV(
        held=Operands(
            batch=batch,
            kv_heads=kv_heads,
            head_dim=head_dim,
            older=split.older,
            keys=encode(*split(keys.flatten(0, 1), kernels), split.older, pipeline, "key", dtype, kernels),
            values=encode(*split(values.flatten(0, 1), kernels), split.older, pipeline, "value", dtype, kernels),
        ),
        kept=None if kept is None else encode_kept(kept, tokens),
        tokens=(tokens,) * batch,
    )


def _evict(keys: Tensor, values: Tensor, context: LayerContext, pipeline: Pipeline) -> KeptTokens | None:
    """The kept tokens, or None if that is all of them."""
    stage = pipeline.eviction
    if isinstance(stage, NoStage):
        return None
    if layer_budgets(stage, keys.shape[2], context.layer_count)[context.layer_index] == keys.shape[2]:
        return None
    scores = scorer_of(stage).score(keys, values, context, stage)
    kept = select(scores, stage, context.layer_index, context.layer_count)
    return kept if len(kept.positions) < scores.numel() else None
