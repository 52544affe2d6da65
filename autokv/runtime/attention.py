"""The attention function that transformers calls while AutoKV looks on.

A forward pass is given a *mode* through the model's own keyword arguments (``model(ids, autokv=mode)``); transformers
hands it down to the attention function of every layer. The mode decides what a layer's queries attend to, so a prefill
that records and a continuation over a compressed context are two modes of the same unmodified model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

ATTENTION = "autokv"


@dataclass(frozen=True)
class AttentionCall:
    """What one layer asks of attention. Heads first: queries ``[batch, query_heads, new, head_dim]``, keys and values
    ``[batch, kv_heads, new, head_dim]``, after RoPE."""

    module: nn.Module
    layer: int
    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float
    softcap: float | None
    window: int | None
    """Sliding window in tokens, the query's own included; ``None`` is full attention."""


class AttentionMode(Protocol):
    """What the queries of one forward pass attend to."""

    def attend(self, call: AttentionCall) -> Tensor:
        """Attention output ``[batch, query_heads, new, head_dim]``."""
        ...


def install(model: PreTrainedModel) -> None:
    """Make ``model`` ask the mode that it is called with (``autokv=mode``) for its attention."""
    AttentionInterface.register(ATTENTION, _attention)
    model.set_attn_implementation(ATTENTION)


def causal_mask(query_positions: Tensor, key_positions: Tensor, window: int | None) -> Tensor:
    """Boolean ``[queries, keys]``: which keys a query may see."""
    distance = query_positions[:, None] - key_positions[None, :]
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


def masked_attention(call: AttentionCall, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention with grouped queries.

    Args:
        call: gives the scaling and the soft cap.
        query: ``[batch, query_heads, new, head_dim]``.
        key: ``[batch, kv_heads, tokens, head_dim]``, as ``value``.
        value: see ``key``.
        mask: boolean, broadcast to ``[batch, kv_heads, group, new, last]`` over the last so many tokens; every query
            sees the tokens before them, and all tokens where it is ``None``.

    Returns:
        ``[batch, query_heads, new, head_dim]`` in the query's dtype.
    """
    batch, heads, new, dim = query.shape
    kv_heads = key.shape[1]
    grouped = query.reshape(batch, kv_heads, heads // kv_heads * new, dim)
    scores = (grouped @ key.transpose(-1, -2)).mul_(call.scaling)
    scores = scores.view(batch, kv_heads, heads // kv_heads, new, key.shape[2])
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    if mask is not None:
        scores[..., -mask.shape[-1] :].masked_fill_(~mask, -torch.inf)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights.flatten(2, 3) @ value).view(batch, heads, new, dim)


def prefill_attention(call: AttentionCall) -> Tensor:
    """Causal attention of a whole prompt over itself: ``[batch, query_heads, tokens, head_dim]``."""
    tokens = call.query.shape[2]
    if call.softcap is not None:
        positions = torch.arange(tokens, device=call.query.device)
        parts = [
            masked_attention(call, query, call.key, call.value, causal_mask(at, positions, call.window))
            for query, at in zip(torch.split(call.query, 256, dim=2), torch.split(positions, 256), strict=True)
        ]
        return torch.cat(parts, dim=2)
    sliding = call.window is not None and call.window < tokens
    mask = None
    if sliding:
        positions = torch.arange(tokens, device=call.query.device)
        mask = causal_mask(positions, positions, call.window)
    return F.scaled_dot_product_attention(
        call.query, call.key, call.value, mask, is_causal=not sliding, scale=call.scaling, enable_gqa=True
    )


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    autokv: AttentionMode,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_kwargs: object,
) -> tuple[Tensor, None]:
    call = AttentionCall(
        module=module,
        layer=int(module.layer_idx),  # type: ignore[arg-type]
        query=query,
        key=key,
        value=value,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        window=sliding_window,
    )
    return autokv.attend(call).transpose(1, 2).contiguous(), None
