"""The pipeline: eviction, then quantization, then low-rank."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from autokv.compression.bitmap import encode_kept
from autokv.compression.budgets import select
from autokv.compression.compressed import CompressedKV
from autokv.compression.context import LayerContext, StatisticsNeeded
from autokv.compression.eviction import SCORERS
from autokv.compression.kept import KeptTokens
from autokv.compression.low_rank import latent_basis, low_rank_factors
from autokv.compression.quantization import SideName, quantize, residual_tokens, rotates
from autokv.compression.split import split_tokens
from autokv.compression.storage import held
from autokv.config import CompressionConfig, LatentLowRank, NoStage, Pipeline, ResidualLowRank, check_fits
from autokv.kernels import Backend, Operands, Rows, Side
from autokv.kernels.hadamard import rotate
from autokv.kernels.quantize_pack import dequantize


def statistics_needed(config: CompressionConfig) -> StatisticsNeeded:
    """What of the prefill :func:`compress` needs to know for ``config``."""
    stage = config.pipeline.eviction
    return StatisticsNeeded() if isinstance(stage, NoStage) else SCORERS[stage.method].needs(stage)


@torch.no_grad()
def compress(keys: Tensor, values: Tensor, context: LayerContext, config: CompressionConfig) -> CompressedKV:
    """Compress one layer's cache; ``keys`` and ``values`` are ``[batch, kv_heads, tokens, head_dim]`` after RoPE.

    Raises:
        ConfigError: a rank or a group is wider than a token, or a statistic that the eviction needs is missing.
    """
    batch, kv_heads, tokens, head_dim = keys.shape
    # How many tokens there are refuses nothing here: a short context fills a part of a group.
    check_fits(config, head_dim=head_dim, context_tokens=sys.maxsize)
    pipeline, dtype, kernels = config.pipeline, context.storage_dtype(keys), context.kernels_on(keys.device)
    kept = _evict(keys, values, context, pipeline)
    split = split_tokens(kept, batch * kv_heads, tokens, residual_tokens(pipeline.quantization))
    return CompressedKV(
        context_tokens=tokens,
        kept=None if kept is None else encode_kept(kept, tokens),
        held=Operands(
            batch=batch,
            kv_heads=kv_heads,
            head_dim=head_dim,
            older=split.older,
            keys=_encode(*split(keys.flatten(0, 1), kernels), split.older, pipeline, "key", dtype, kernels),
            values=_encode(*split(values.flatten(0, 1), kernels), split.older, pipeline, "value", dtype, kernels),
        ),
    )


def _evict(keys: Tensor, values: Tensor, context: LayerContext, pipeline: Pipeline) -> KeptTokens | None:
    """The kept tokens, or None if that is all of them."""
    stage = pipeline.eviction
    if isinstance(stage, NoStage):
        return None
    scores = SCORERS[stage.method].score(keys, values, context, stage)
    kept = select(scores, stage, context.layer_index, context.layer_count)
    return kept if len(kept.positions) < scores.numel() else None


def _encode(
    tokens: Tensor,
    window: Tensor,
    older: Rows,
    pipeline: Pipeline,
    name: SideName,
    dtype: torch.dtype,
    kernels: Backend,
) -> Side:
    """``tokens``: ``[rows, older.longest, head_dim]``."""
    quantization, low_rank = pipeline.quantization, pipeline.low_rank
    rank = 0 if isinstance(low_rank, NoStage) else low_rank.key_rank if name == "key" else low_rank.value_rank
    window, basis, left, right = held(window, dtype), None, None, None
    rotated = rotates(quantization)
    if isinstance(low_rank, LatentLowRank) and rank:
        directions = latent_basis(tokens.float(), older, rank)
        # Rotating the coordinates is the same as rotating the basis, which then costs nothing to undo.
        basis, rotated = (rotate(directions) if rotated else directions).half(), False
        tokens = tokens.float() @ basis.float()
    packed = quantize(tokens, older, quantization, name, dtype, kernels, rotated=rotated)
    if isinstance(low_rank, ResidualLowRank) and rank:
        coordinates = rotate(tokens.float()) if rotated else tokens.float()
        factor, right = low_rank_factors(coordinates - dequantize(packed, older), older, rank)
        left = older.to_flat(held(factor, dtype))
    return Side(packed, window, rotated, basis, left, right)
