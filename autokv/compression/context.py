"""What a compressor may know of a layer besides its keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from autokv.kernels import Backend, backend

Rope = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions ``[n]`` to the model's own (cos, sin), each ``[n, rotary_dim]`` in float32, halves repeated."""


@dataclass(frozen=True)
class StatisticsNeeded:
    """What of the prefill a scorer needs; ``a | b`` is what serves both."""

    observation_window: int = 0
    """Newest tokens whose queries are kept."""
    attention_received: bool = False
    query_moments: bool = False

    def __or__(self, other: StatisticsNeeded) -> StatisticsNeeded:
        return StatisticsNeeded(
            max(self.observation_window, other.observation_window),
            self.attention_received or other.attention_received,
            self.query_moments or other.query_moments,
        )


@dataclass(frozen=True)
class PrefillStatistics:
    """What one layer's prefill left behind besides keys and values; ``None`` where it was not asked for."""

    observed_queries: Tensor | None = None
    """``[batch, query_heads, n, head_dim]``, after RoPE, of the observation window's tokens, oldest first."""
    attention_received: Tensor | None = None
    """``[batch, kv_heads, tokens]`` float32: softmax attention summed over queries, mean over its query group."""
    query_mean: Tensor | None = None
    """``[batch, query_heads, head_dim]`` float32, before RoPE, the first 4 tokens left out."""
    query_covariance: Tensor | None = None
    """``[batch, query_heads, head_dim, head_dim]`` float32, biased, of the same queries."""


@dataclass(frozen=True)
class LayerContext:
    """One layer, as a compressor sees it."""

    layer_index: int
    """Position among the layers that are compressed, from 0."""
    layer_count: int
    """Layers that are compressed."""
    scaling: float
    """Attention multiplies q·k by this."""
    statistics: PrefillStatistics = PrefillStatistics()
    rope: Rope | None = None
    softcap: float | None = None
    """Scores become ``softcap * tanh(score / softcap)``."""
    kernels: Backend | None = None
    """What runs the operations; None takes the fastest on the device of the keys."""

    def kernels_on(self, device: torch.device) -> Backend:
        """:attr:`kernels`, or the fastest on ``device``."""
        return self.kernels or backend(device)

    def storage_dtype(self, keys: Tensor) -> torch.dtype:
        """16-bit dtype of whatever is held unquantized: the model's own, or float16 for a float32 model."""
        return keys.dtype if keys.dtype in (torch.float16, torch.bfloat16) else torch.float16
