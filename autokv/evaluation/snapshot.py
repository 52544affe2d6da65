"""A prefill, kept: everything that judging a compression of it needs, so that no trial pays for a prefill again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autokv.compression import LayerContext, StatisticsNeeded
from autokv.evaluation.prompt import Prompt
from autokv.kernels import Backend
from autokv.models import LoadedModel
from autokv.runtime.attention import AttentionCall, attending, prefill_attention
from autokv.runtime.contexts import LayerContexts


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

    def __init__(self, model: LoadedModel, needs: StatisticsNeeded, kernels: Backend) -> None:
        self._contexts = LayerContexts(model.model, len(model.facts.full_layers), kernels)
        self._needs = needs
        self.layers: list[LayerSnapshot] = []

    def attend(self, call: AttentionCall) -> Tensor:
        window, index = call.sliding_window, sum(layer.window is None for layer in self.layers)
        needs = self._needs if window is None else StatisticsNeeded()
        held = slice(None) if window is None else slice(-window, None)
        self.layers.append(
            LayerSnapshot(
                layer=call.layer,
                keys=call.key[:, :, held].contiguous(),
                values=call.value[:, :, held].contiguous(),
                window=window,
                query=call.query[:, :, -1].clone(),
                context=self._contexts.of(call, needs, index),
            )
        )
        return prefill_attention(call)


def take_snapshot(model: LoadedModel, prompt: Prompt, needs: StatisticsNeeded, kernels: Backend) -> Snapshot:
    """Prefill ``prompt`` once and keep what compressing and judging it needs.

    The model must have been given AutoKV's attention (:func:`autokv.runtime.attention.install`).

    Raises:
        ModelError: the model attends otherwise than its configuration says.
    """
    recorder = _Recorder(model, needs, kernels)
    ids = torch.tensor([prompt.context], device=model.device)
    with torch.inference_mode(), attending(recorder, model.facts):
        output = model.model(ids, use_cache=False, logits_to_keep=1)
    return Snapshot(prompt, tuple(recorder.layers), output.logits[0, -1].float())
