"""ExpectedAttention: what future queries would attend to (Devoto et al. 2025, "Expected Attention")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from autokv.compression.context import LayerContext, StatisticsNeeded
from autokv.compression.eviction.base import Scorer, required
from autokv.config import ExpectedAttention


class ExpectedAttentionScorer(Scorer[ExpectedAttention]):
    """``softmax(s k·μ + s² kᵀΣk / 2) ‖v‖`` as a logarithm, which ranks the same and does not underflow.

    μ and Σ are the mean and covariance of the queries before RoPE, turned by the mean rotation of the next
    ``future_positions`` positions; s is the scaling of q·k; the softmax leaves out the sinks and is averaged over the
    query group. The sinks stay.
    """

    stage = ExpectedAttention

    def needs(self, stage: ExpectedAttention) -> StatisticsNeeded:
        return StatisticsNeeded(query_moments=True)

    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: ExpectedAttention) -> Tensor:
        options, statistics = stage.options, context.statistics
        batch, kv_heads, tokens, head_dim = keys.shape
        sinks = min(stage.sink_tokens, tokens)
        rotation = _mean_rotation(context, tokens, options.future_positions, keys.device)
        candidates = keys[:, :, sinks:].float()

        mean = _rotate(required(statistics.query_mean, "query_mean").float(), rotation)
        logits = context.scaling * (mean.reshape(batch, kv_heads, -1, head_dim) @ candidates.mT)
        if options.use_covariance:
            covariance = required(statistics.query_covariance, "query_covariance").float()
            covariance = _rotate(_rotate(covariance, rotation).mT, rotation)
            covariance = covariance.reshape(batch, kv_heads, -1, head_dim, head_dim)
            grouped = candidates.unsqueeze(2)
            logits = logits + context.scaling**2 / 2 * ((grouped @ covariance) * grouped).sum(-1)

        scores = logits.log_softmax(dim=-1).logsumexp(dim=2)
        if options.use_value_norm:
            scores = scores + torch.linalg.vector_norm(values[:, :, sinks:], dim=-1, dtype=torch.float32).log()
        return F.pad(scores, (sinks, 0), value=torch.inf)


def _mean_rotation(
    context: LayerContext, tokens: int, future_positions: int, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Mean (cos, sin), each ``[rotary_dim]``, of the positions after the context; None without RoPE."""
    if context.rope is None:
        return None
    cos, sin = context.rope(torch.arange(tokens, tokens + future_positions, device=device))
    return cos.float().mean(dim=0), sin.float().mean(dim=0)


def _rotate(vectors: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
    """Turn the last axis; channels beyond the rotary ones pass through."""
    if rotation is None:
        return vectors
    cos, sin = rotation
    turned, passed = vectors[..., : cos.shape[-1]], vectors[..., cos.shape[-1] :]
    lower, upper = turned.chunk(2, dim=-1)
    return torch.cat((turned * cos + torch.cat((-upper, lower), dim=-1) * sin, passed), dim=-1)
