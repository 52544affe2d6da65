"""The layers of a model as they call attention, with tensors made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from autokv.evaluation.clock import MAX_SCRATCH_BYTES, last_level_cache_bytes
from autokv.models import LoadedModel
from autokv.runtime.attention import AttentionCall
from autokv.runtime.packed import packed_logits


class NoAttention:
    """The mode of a pass whose attention costs nothing; keeps how every layer called."""

    def __init__(self) -> None:
        self.calls: dict[int, AttentionCall] = {}

    def attend(self, call: AttentionCall) -> Tensor:
        self.calls[call.layer] = call
        return torch.zeros_like(call.query)


class Layers:
    """Attention's calls in one model; it must have AutoKV's attention."""

    def __init__(self, model: LoadedModel) -> None:
        self.model, self._facts = model, model.facts
        mode, zero = NoAttention(), torch.zeros(1, dtype=torch.int64)
        with torch.inference_mode():
            packed_logits(model.model, model.facts, mode, zero, zero, [0])
        calls = [mode.calls[layer] for layer in range(model.facts.layers)]
        self._dtype = calls[0].key.dtype
        self.full = [call for call in calls if call.sliding_window is None]
        """A call of every layer with full attention."""
        self.sliding = [call for call in calls if call.sliding_window is not None]
        self._scratch: Tensor | None = None
        self._generator = torch.Generator(model.device).manual_seed(0)

    @property
    def shape(self) -> dict[str, Any]:
        """What times of this model depend on, besides what is run."""
        facts = self._facts
        names = ("model_type", "layers", "query_heads", "kv_heads", "head_dim", "hidden_size", "vocab_size")
        return {
            **{name: getattr(facts, name) for name in (*names, "parameters")},
            "dtype": str(self._dtype).removeprefix("torch."),
            "softcap": self.full[0].softcap is not None,
        }

    def random(self, *shape: int) -> Tensor:
        """Made-up states in the model's dtype."""
        made = torch.randn(shape, generator=self._generator, device=self.model.device, dtype=torch.float32)
        return made.to(self._dtype)

    def prompt(self, call: AttentionCall, tokens: int) -> AttentionCall:
        """``call`` of a whole prompt of made-up tokens."""
        facts = self._facts
        # Tokens before heads in memory, as a model makes them.
        query, key, value = (
            self.random(1, tokens, heads, facts.head_dim).transpose(1, 2)
            for heads in (facts.query_heads, facts.kv_heads, facts.kv_heads)
        )
        return replace(call, query=query, key=key, value=value, mask=None, options={})

    def newest(self, call: AttentionCall, batch: int) -> AttentionCall:
        """``call`` of one made-up token for each of ``batch`` sequences."""
        facts = self._facts
        query, key, value = (
            self.random(batch, heads, 1, facts.head_dim)
            for heads in (facts.query_heads, facts.kv_heads, facts.kv_heads)
        )
        return replace(call, query=query, key=key, value=value, mask=None, options={})

    def arrive(self, call: AttentionCall) -> None:
        """Bring the processor's caches to what a layer finds: the tensors of ``call``, and no trace of the layer
        before, neither of its tensors nor of the code that ran."""
        if self._scratch is None:
            size = min(2 * last_level_cache_bytes(self.model.device), MAX_SCRATCH_BYTES)
            self._scratch = torch.ones(size // 4, device=self.model.device)
        self._scratch.sum()
        for tensor in (call.query, call.key, call.value):
            tensor.sum()
