"""``ModelFacts``: what a model's configuration says about its KV cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

LayerKind = Literal["full", "sliding"]
BYTES_16BIT = 2


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a decoder whose full-attention layers can be compressed.

    ``sliding`` layers see the newest ``sliding_window`` tokens and hold a bounded cache, which is counted and never
    compressed.
    """

    name: str
    """Hub id, or the last part of a local path."""
    architecture: str
    """Class in transformers, such as ``LlamaForCausalLM``."""
    model_type: str
    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    layer_kinds: tuple[LayerKind, ...]
    sliding_window: int | None
    """Tokens that a sliding layer sees."""
    rope: Mapping[str, Any]
    """Rotary parameters as transformers names them (per layer kind where they differ); empty without RoPE."""
    context_tokens: int
    """Longest context that the model was made for, extensions of its RoPE included."""
    parameters: int
    """Tied parameters count once."""
    hidden_size: int
    vocab_size: int
    attention_softcap: float | None = None
    """Attention logits pass ``c·tanh(x/c)`` with this c (Gemma 2, 2024)."""
    switch_tokens: int | None = None
    """Where LongRoPE (Ding et al., 2024) goes over from its short factors to its long ones: a longer sequence rotates
    all of its positions anew, so that no cache of a shorter one can be continued. None for other models."""
    revision: str | None = None
    """Of the weights: a commit of the hub, or ``weights-`` and a digest of their files; None where there are none."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Self | None:
        """The facts that :meth:`to_dict` gave, other keys left out; None where a field is missing."""
        given = {field.name: values[field.name] for field in fields(cls) if values and field.name in values}
        try:
            return cls(**given | {"layer_kinds": tuple(given["layer_kinds"])})
        except (KeyError, TypeError):
            return None

    @property
    def full_layers(self) -> tuple[int, ...]:
        """Indices of the layers with full attention, ascending: what is compressed."""
        return tuple(index for index, kind in enumerate(self.layer_kinds) if kind == "full")

    @property
    def attention(self) -> Literal["MHA", "GQA", "MQA"]:
        """How query heads share KV heads: multi-head, grouped-query or multi-query."""
        if self.kv_heads == self.query_heads:
            return "MHA"
        return "MQA" if self.kv_heads == 1 else "GQA"

    @property
    def kv_bytes_per_token(self) -> int:
        """16-bit bytes per context token of all full-attention layers together."""
        return len(self.full_layers) * self._layer_bytes

    @property
    def windowed_kv_bytes(self) -> int:
        """16-bit bytes that the sliding layers hold at most, whatever the context."""
        return (self.layers - len(self.full_layers)) * self._layer_bytes * (self.sliding_window or 0)

    @property
    def _layer_bytes(self) -> int:
        return 2 * self.kv_heads * self.head_dim * BYTES_16BIT

    def to_dict(self) -> dict[str, Any]:
        """Every field and derived fact, ready for JSON."""
        return {
            **asdict(self),
            "layer_kinds": list(self.layer_kinds),
            "rope": dict(self.rope),
            "full_layers": list(self.full_layers),
            "attention": self.attention,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "windowed_kv_bytes": self.windowed_kv_bytes,
        }
