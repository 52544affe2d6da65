"""What a layer's forward pass tells a compressor besides its keys and values."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from autokv.compression import LayerContext, PrefillStatistics, StatisticsNeeded
from autokv.compression.context import Rope
from autokv.kernels import Backend
from autokv.runtime.attention import AttentionCall
from autokv.runtime.rope import rope_of, rotation_is_known, unrotate

SINKS_LEFT_OUT = 4
"""Leading tokens that query moments leave out: their states are outliers (Expected Attention, 2025)."""


class LayerContexts:
    """Makes the :class:`LayerContext` of every layer of one model."""

    def __init__(self, model: PreTrainedModel, layer_count: int, kernels: Backend) -> None:
        self._model = model
        self._layer_count = layer_count
        self._kernels = kernels

    def of(self, call: AttentionCall, needs: StatisticsNeeded, layer_index: int) -> LayerContext:
        """``call`` covers the whole context; ``layer_index`` counts the layers that are compressed."""
        rope = rope_of(self._model, call.module)
        return LayerContext(
            layer_index=layer_index,
            layer_count=self._layer_count,
            scaling=call.scaling,
            softcap=call.softcap,
            statistics=_statistics(call, needs, rope, self._kernels),
            rope=rope,
            kernels=self._kernels,
        )


def _statistics(call: AttentionCall, needs: StatisticsNeeded, rope: Rope | None, kernels: Backend) -> PrefillStatistics:
    query = call.query
    received = None
    if needs.attention_received:
        received = kernels.window_scores(query, call.key, call.scaling, softcap=call.softcap)
    moments = needs.query_moments and rotation_is_known(call.module)
    mean, covariance = _query_moments(query, rope) if moments else (None, None)
    return PrefillStatistics(
        window_queries=query[:, :, -needs.window :].clone() if needs.window else None,
        attention_received=received,
        query_mean=mean,
        query_covariance=covariance,
    )


def _query_moments(query: Tensor, rope: Rope | None) -> tuple[Tensor, Tensor]:
    tokens = query.shape[2]
    plain = query.float()
    if rope is not None:
        plain = unrotate(query, *rope(torch.arange(tokens, device=query.device)))
    plain = plain[:, :, min(SINKS_LEFT_OUT, tokens - 1) :]
    mean = plain.mean(dim=2)
    centred = plain - mean[:, :, None]
    return mean, centred.transpose(-1, -2) @ centred / plain.shape[2]
