"""A prefill, kept: everything that judging a compression of it needs, so that no trial pays for a prefill again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autokv.compression.context import LayerContext, PrefillStatistics, Rope, StatisticsNeeded
from autokv.evaluation.prompt import Prompt
from autokv.models import LoadedModel
from autokv.runtime.attention import AttentionCall, causal_mask, prefill_attention
from autokv.runtime.rope import rope_of, rotation_is_known, unrotate

SINKS_LEFT_OUT = 4
"""Leading tokens that query moments leave out: their states are outliers (Expected Attention, 2025)."""
_CHUNK = 256


@dataclass(frozen=True)
class LayerSnapshot:
    """One layer after the prefill. Keys and values are ``[1, kv_heads, tokens, head_dim]`` in the model's dtype;
    a sliding-window layer keeps its window only."""

    layer: int
    keys: Tensor
    values: Tensor
    window: int | None
    query: Tensor
    """``[1, query_heads, head_dim]``, the newest token's, after RoPE."""
    context: LayerContext


@dataclass(frozen=True)
class Snapshot:
    """One prompt's prefill."""

    prompt: Prompt
    layers: tuple[LayerSnapshot, ...]
    next_logits: Tensor
    """``[vocabulary]`` float32: what follows the context's last token; no compression changes it."""

    @property
    def tokens(self) -> int:
        """Context tokens."""
        return len(self.prompt.context)

    @property
    def full_layers(self) -> tuple[LayerSnapshot, ...]:
        """The layers with full attention, which are what is compressed."""
        return tuple(layer for layer in self.layers if layer.window is None)

    @property
    def sliding_bytes(self) -> int:
        """16-bit bytes that the sliding-window layers hold."""
        return sum(2 * (layer.keys.numel() + layer.values.numel()) for layer in self.layers if layer.window is not None)


class _Recorder:
    """The mode of a prefill: plain causal attention that keeps what it sees."""

    def __init__(self, model: LoadedModel, needs: StatisticsNeeded) -> None:
        self._model = model
        self._needs = needs
        self.layers: list[LayerSnapshot] = []

    def attend(self, call: AttentionCall) -> Tensor:
        window = call.window
        statistics, rope = PrefillStatistics(), None
        if window is None:
            rope = rope_of(self._model.model, call.module)
            statistics = _statistics(call, self._needs, rope)
        held = slice(None) if window is None else slice(-window, None)
        self.layers.append(
            LayerSnapshot(
                layer=call.layer,
                keys=call.key[:, :, held].contiguous(),
                values=call.value[:, :, held].contiguous(),
                window=window,
                query=call.query[:, :, -1].clone(),
                context=LayerContext(
                    layer_index=sum(layer.window is None for layer in self.layers),
                    layer_count=len(self._model.facts.full_layers),
                    scaling=call.scaling,
                    statistics=statistics,
                    rope=rope,
                ),
            )
        )
        return prefill_attention(call)


def take_snapshot(model: LoadedModel, prompt: Prompt, needs: StatisticsNeeded) -> Snapshot:
    """Prefill ``prompt`` once and keep what compressing and judging it needs.

    The model must have been given AutoKV's attention (:func:`autokv.runtime.attention.install`).
    """
    recorder = _Recorder(model, needs)
    ids = torch.tensor([prompt.context], device=model.device)
    with torch.inference_mode():
        output = model.model(ids, use_cache=False, logits_to_keep=1, autokv=recorder)
    return Snapshot(prompt, tuple(recorder.layers), output.logits[0, -1].float())


def _statistics(call: AttentionCall, needs: StatisticsNeeded, rope: Rope | None) -> PrefillStatistics:
    query = call.query
    moments = needs.query_moments and rotation_is_known(call.module)
    mean, covariance = _query_moments(query, rope) if moments else (None, None)
    return PrefillStatistics(
        window_queries=query[:, :, -needs.window :].clone() if needs.window else None,
        attention_received=_attention_received(call) if needs.attention_received else None,
        query_mean=mean,
        query_covariance=covariance,
    )


def _attention_received(call: AttentionCall) -> Tensor:
    """Causal softmax attention that each token receives, summed over queries and averaged over the query group, a chunk
    of queries at a time so that no tokens x tokens matrix is ever held."""
    batch, heads, tokens, dim = call.query.shape
    kv_heads = call.key.shape[1]
    keys = call.key.float().transpose(-1, -2)
    positions = torch.arange(tokens, device=keys.device)
    received = keys.new_zeros(batch, kv_heads, tokens)
    for start in range(0, tokens, _CHUNK):
        stop = min(start + _CHUNK, tokens)
        chunk = call.query[:, :, start:stop].float().reshape(batch, kv_heads, -1, dim)
        scores = (chunk @ keys[..., :stop]).mul_(call.scaling).view(batch, kv_heads, -1, stop - start, stop)
        if call.softcap is not None:
            scores = torch.tanh(scores / call.softcap) * call.softcap
        scores.masked_fill_(~causal_mask(positions[start:stop], positions[:stop], None), -torch.inf)
        received[..., :stop] += torch.softmax(scores, dim=-1).sum(dim=(2, 3))
    return received / (heads // kv_heads)


def _query_moments(query: Tensor, rope: Rope | None) -> tuple[Tensor, Tensor]:
    tokens = query.shape[2]
    plain = query.float()
    if rope is not None:
        plain = unrotate(query, *rope(torch.arange(tokens, device=query.device)))
    plain = plain[:, :, min(SINKS_LEFT_OUT, tokens - 1) :]
    mean = plain.mean(dim=2)
    centred = plain - mean[:, :, None]
    return mean, centred.transpose(-1, -2) @ centred / plain.shape[2]
