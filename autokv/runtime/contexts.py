"""What a layer's forward pass tells a compressor besides its keys and values, with the model's own rotary embedding."""

from __future__ import annotations

import inspect
import sys

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autokv.compression import LayerContext, PrefillStatistics, StatisticsNeeded
from autokv.compression.context import Rope
from autokv.kernels import Backend
from autokv.runtime.attention import AttentionCall

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
    query, observed = call.query, needs.observation_window
    received = None
    if needs.attention_received:
        received = kernels.window_scores(query, call.key, call.scaling, softcap=call.softcap)
    moments = needs.query_moments and rotation_is_known(call.module)
    mean, covariance = _query_moments(query, rope) if moments else (None, None)
    return PrefillStatistics(
        observed_queries=query[:, :, -observed:].clone() if observed else None,
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


def rope_of(model: PreTrainedModel, module: nn.Module) -> Rope | None:
    """Positions to (cos, sin) for one attention module; ``None`` where the layer rotates nothing."""
    rotary = next((child for name, child in model.named_modules() if name.endswith("rotary_emb")), None)
    if rotary is None or not getattr(module, "use_rope", True):
        return None
    options = {}
    if "layer_type" in inspect.signature(rotary.forward).parameters:
        options["layer_type"] = model.config.get_text_config().layer_types[module.layer_idx]

    def rope(positions: Tensor) -> tuple[Tensor, Tensor]:
        probe = torch.empty(0, dtype=torch.float32, device=positions.device)
        cos, sin = rotary(probe, positions[None], **options)
        return cos[0], sin[0]

    return rope


def unrotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Undo a rotary embedding.

    Args:
        states: ``[..., tokens, head_dim]`` after RoPE; only the first ``rotary_dim`` channels were rotated.
        cos: ``[tokens, rotary_dim]``, as ``sin``; a length scaling (YaRN) in them is undone too.
        sin: see ``cos``.
    """
    width = cos.shape[-1]
    rotated, rest = states[..., :width].float(), states[..., width:]
    first, second = rotated.chunk(2, dim=-1)
    turned = torch.cat((second, -first), dim=-1)
    plain = (rotated * cos + turned * sin) / (cos.square() + sin.square())
    return torch.cat((plain, rest.float()), dim=-1)


def rotation_is_known(module: nn.Module) -> bool:
    """Whether the model pairs channel j with j + D/2, as :func:`unrotate` does; Cohere and GLM interleave instead.

    Found by asking the model's own ``rotate_half``.
    """
    rotate_half = getattr(sys.modules[type(module).__module__], "rotate_half", None)
    return rotate_half is not None and rotate_half(torch.arange(4.0)).tolist() == [-2.0, -3.0, 0.0, 1.0]
