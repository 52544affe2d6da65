"""The attention function that AutoKV gives a model of transformers.

What a layer's queries attend to is decided by a *mode*. A forward pass inside :func:`attending` is given one: a
prefill that records and a continuation over a compressed context are two modes of the same unmodified model. A layer
of a :class:`autokv.CompressedCache` is a mode too, and is found on the key that it returned. Every other call gets
plain attention, so that the model keeps working with any cache.

What a layer asks is compared with the model's facts each time: a model that attends in another way than its
configuration says is refused, never judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from autokv.errors import ModelError, RequestError
from autokv.models import ModelFacts

ATTENTION = "autokv"
QUERY_CHUNK = 256
"""Queries whose scores against all keys are held at once."""
_ADDED = ("s_aux", "sinks", "position_bias", "indices", "block_indices")
"""Names under which models of transformers pass what changes attention, and which no mode takes into account."""


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
    sliding_window: int | None
    """In tokens, the query's own included; ``None`` is full attention."""
    mask: Tensor | None = None
    """``[batch, 1, new, tokens]``, true where a query sees a token; ``None`` is causal attention without padding."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else the model passed to its attention."""


class AttentionMode(Protocol):
    """What the queries of one forward pass attend to."""

    def attend(self, call: AttentionCall) -> Tensor:
        """Attention output ``[batch, query_heads, new, head_dim]``."""
        ...


_mode: ContextVar[AttentionMode | None] = ContextVar("autokv_mode", default=None)


@contextmanager
def attending(mode: AttentionMode, facts: ModelFacts) -> Iterator[None]:
    """Every layer of the one forward pass inside the block attends through ``mode``.

    Raises:
        ModelError: the layers did not attend once each, in order and as ``facts`` say.
    """
    one_pass = _Pass(mode, facts)
    token = _mode.set(one_pass)
    try:
        yield
    finally:
        _mode.reset(token)
    if one_pass.layers != [*range(facts.layers)]:
        raise _otherwise(facts, f"attends in layers {one_pass.layers}, and has {facts.layers}")


def as_stated(call: AttentionCall, facts: ModelFacts) -> AttentionCall:
    """``call`` with the sliding window that ``facts`` state for its layer, which not every model passes on.

    Raises:
        ModelError: the layer attends otherwise than ``facts`` say.
    """
    layer, shape = call.layer, (facts.kv_heads, facts.head_dim)
    for what, tensor in (("keys", call.key), ("values", call.value)):
        found = (tensor.shape[1], tensor.shape[3])
        if found != shape:
            raise _otherwise(
                facts, f"attends to {what} of {found[0]} heads × {found[1]}, and states {shape[0]} × {shape[1]}"
            )
    if layer >= facts.layers:
        raise _otherwise(facts, f"attends in a layer {layer}, and has {facts.layers}")
    stated = facts.sliding_window if facts.layer_kinds[layer] == "sliding" else None
    if call.sliding_window not in (None, stated) and (stated is not None or call.sliding_window < facts.context_tokens):
        raise _otherwise(
            facts, f"attends to a sliding window of {call.sliding_window} tokens in layer {layer}, and states {stated}"
        )
    added = [name for name in _ADDED if call.options.get(name) is not None]
    if added:
        raise _otherwise(facts, f"adds {added[0]} to its attention")
    return call if call.sliding_window == stated else replace(call, sliding_window=stated)


def _otherwise(facts: ModelFacts, what: str) -> ModelError:
    return ModelError(
        f"{facts.model_type} cannot be compressed: it {what}",
        field=facts.name,
        remedy="choose a model of another architecture, or the transformers version that this one was made for",
    )


class _Pass:
    """The mode of one forward pass, checked."""

    def __init__(self, mode: AttentionMode, facts: ModelFacts) -> None:
        self._mode, self._facts = mode, facts
        self.layers: list[int] = []

    def attend(self, call: AttentionCall) -> Tensor:
        self.layers.append(call.layer)
        return self._mode.attend(as_stated(call, self._facts))


def install(model: PreTrainedModel) -> None:
    """Give ``model`` AutoKV's attention function."""
    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, _mask)
    if model.config._attn_implementation != ATTENTION:
        model.set_attn_implementation(ATTENTION)


def mark(key: Tensor, mode: AttentionMode) -> None:
    """Let the attention function find ``mode`` on the key that a cache returns."""
    key.autokv_mode = mode  # type: ignore[attr-defined]


def causal_mask(query_positions: Tensor, key_positions: Tensor, sliding_window: int | None) -> Tensor:
    """Boolean ``[queries, keys]``: which keys a query may see."""
    distance = query_positions[:, None] - key_positions[None, :]
    return distance >= 0 if sliding_window is None else (distance >= 0) & (distance < sliding_window)


def attention_weights(call: AttentionCall, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """The softmax of :func:`masked_attention`, float32 ``[batch, kv_heads, group, new, tokens]``."""
    batch, heads, new, dim = query.shape
    kv_heads = key.shape[1]
    grouped = query.reshape(batch, kv_heads, heads // kv_heads * new, dim)
    scores = (grouped @ key.transpose(-1, -2)).mul_(call.scaling)
    scores = scores.view(batch, kv_heads, heads // kv_heads, new, key.shape[2])
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    if mask is not None:
        # Finite, so that the output of a query that sees nothing (of padding) is no NaN.
        scores[..., -mask.shape[-1] :].masked_fill_(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1, dtype=torch.float32)


def weigh_values(weights: Tensor, query: Tensor, value: Tensor) -> Tensor:
    """``weights`` of :func:`attention_weights` over ``value``: of the shape and dtype of ``query``."""
    return (weights.to(query.dtype).flatten(2, 3) @ value).view(query.shape)


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
    return weigh_values(attention_weights(call, query, key, mask), query, value)


def prefill_attention(call: AttentionCall) -> Tensor:
    """Causal attention of a whole prompt over itself: ``[batch, query_heads, tokens, head_dim]``."""
    tokens = call.query.shape[2]
    if call.softcap is not None:
        positions = torch.arange(tokens, device=call.query.device)
        parts = [
            masked_attention(call, query, call.key, call.value, causal_mask(at, positions, call.sliding_window))
            for query, at in _chunks(call.query, positions)
        ]
        return torch.cat(parts, dim=2)
    sliding = call.sliding_window is not None and call.sliding_window < tokens
    mask = None
    if sliding:
        positions = torch.arange(tokens, device=call.query.device)
        mask = causal_mask(positions, positions, call.sliding_window)
    return F.scaled_dot_product_attention(
        call.query, call.key, call.value, mask, is_causal=not sliding, scale=call.scaling, enable_gqa=True
    )


def plain_attention(call: AttentionCall) -> Tensor:
    """Attention of a model without compression, over the keys and under the mask of ``call``."""
    if call.softcap is None:
        output, _ = sdpa_attention_forward(
            call.module,
            call.query,
            call.key,
            call.value,
            call.mask,
            scaling=call.scaling,
            **call.options,
        )
        return output.transpose(1, 2)
    tokens, new = call.key.shape[2], call.query.shape[2]
    mask = call.mask
    if mask is None:
        at = torch.arange(tokens, device=call.query.device)
        # A single query without a mask sees everything; several without one start where the keys do.
        mask = causal_mask(at[:new] if new > 1 else at[-1:], at, None)[None, None]
    elif mask.dtype != torch.bool:
        mask = mask == 0
    parts = [
        masked_attention(call, query, call.key, call.value, seen[:, :, None])
        for query, seen in zip(torch.split(call.query, QUERY_CHUNK, 2), torch.split(mask, QUERY_CHUNK, 2), strict=True)
    ]
    return torch.cat(parts, dim=2)


def _chunks(query: Tensor, positions: Tensor) -> zip[tuple[Tensor, Tensor]]:
    return zip(torch.split(query, QUERY_CHUNK, dim=2), torch.split(positions, QUERY_CHUNK), strict=True)


class _Plain:
    """The mode of a call that names none."""

    def attend(self, call: AttentionCall) -> Tensor:
        return plain_attention(call)


_PLAIN = _Plain()


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    named: AttentionMode = getattr(key, "autokv_mode", _PLAIN)
    mode = _mode.get() or named
    call = AttentionCall(
        module=module,
        layer=int(module.layer_idx),  # type: ignore[arg-type]
        query=query,
        key=key,
        value=value,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        sliding_window=sliding_window,
        mask=attention_mask,
        options=options,
    )
    return mode.attend(call).transpose(1, 2).contiguous(), None


def _mask(
    *,
    q_length: int,
    kv_length: int,
    kv_offset: int = 0,
    attention_mask: Tensor | None = None,
    **options: Any,  # noqa: ANN401 - transformers' own
) -> Tensor | None:
    """transformers' mask; a compressed layer names the new tokens only, as the keys that it returns.

    Raises:
        RequestError: there is no new token, or the padding mask does not reach it.
    """
    if not q_length:
        raise RequestError(
            f"has no token behind the {kv_offset} that the cache has seen",
            field="input_ids",
            remedy="give a new prompt a new cache",
        )
    if kv_offset and kv_length == q_length:
        if attention_mask is not None and attention_mask.shape[-1] < kv_offset + kv_length:
            raise RequestError(
                f"covers {attention_mask.shape[-1]} tokens, but the cache has seen {kv_offset} and {q_length} are new",
                field="attention_mask",
                remedy="give a new prompt a new cache, or a mask of the whole conversation",
            )
        if q_length == 1:
            # A token sees itself; asking the mask would make the host wait for the device.
            return None
    mask: Tensor | None = sdpa_mask(
        q_length=q_length, kv_length=kv_length, kv_offset=kv_offset, attention_mask=attention_mask, **options
    )
    return mask
