"""Queries behind a compressed context: one by the kernels, several by way of the tokens themselves.

Several tokens come as a chunk, which sees itself in full precision, or in turn, each as a token that was generated.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from autokv.errors import RequestError
from autokv.kernels import Operands
from autokv.kernels.reconstruct import materialize
from autokv.runtime.attention import (
    QUERY_CHUNK,
    AttentionCall,
    attention_weights,
    causal_mask,
    masked_attention,
    weigh_values,
)
from autokv.runtime.contents import LayerContents
from autokv.runtime.residual_window import ResidualWindow


def attend_one(contents: LayerContents, call: AttentionCall) -> Tensor:
    """Append one token and attend from it: ``[batch, query_heads, 1, head_dim]``."""
    contents.room()
    growth, window = contents.growth, contents.append(call.key.flatten(0, 1), call.value.flatten(0, 1))
    attention = growth.kernels.decode_attention(
        call.query[:, :, 0], contents.parts(), call.scaling, softcap=call.softcap
    )
    if window.received is not None:
        _receive(window, window.received[:, : window.used], call, attention.lse, growth.watched == "newest")
    return attention.output[:, :, None]


def attend_several(contents: LayerContents, call: AttentionCall) -> Tensor:
    """Attend from the tokens of a chunk, and append them: ``[batch, query_heads, new, head_dim]``.

    What is held is taken out of its compressed form, for this layer and this pass.

    Raises:
        RequestError: some of the new tokens are masked, or begin before the end of what is held.
    """
    _check_positions(contents, call.options.get("position_ids"))
    if call.mask is not None:
        raise RequestError(
            "masks some of the tokens that follow a compressed prompt",
            field="attention_mask",
            remedy="pad only the first prompt, on the left, and give no prefill_chunk_size with padding",
        )
    output = _attend_dense(contents, call)
    keys, values, done = call.key.flatten(0, 1), call.value.flatten(0, 1), 0
    received = None
    while done < keys.shape[1]:
        stop = min(done + contents.room(), keys.shape[1])
        window = contents.append(keys[:, done:stop], values[:, done:stop])
        if window.received is not None:
            if received is None:
                # Tokens that come together are judged by each other's attention.
                scores = contents.growth.kernels.window_scores(call.query, call.key, call.scaling, softcap=call.softcap)
                received = scores.flatten(0, 1)
            window.received[:, window.used - (stop - done) : window.used] = received[:, done:stop]
        done = stop
    return output


def attend_in_turn(contents: LayerContents, call: AttentionCall) -> Tensor:
    """As :func:`attend_one` for every token of ``call`` in turn: ``[batch, query_heads, new, head_dim]``.

    Tokens between which nothing leaves the residual window attend together.
    """
    keys, values, new = call.key.flatten(0, 1), call.value.flatten(0, 1), call.query.shape[2]
    growth, outputs, done, prompt = contents.growth, list[Tensor](), 0, None
    while done < new:
        stop = min(done + contents.room(), new)
        window = contents.append(keys[:, done:stop], values[:, done:stop])
        prompt = prompt or _dense(contents.prompt, call.key.dtype)
        held, query, count = _held(contents, prompt), call.query[:, :, done:stop], stop - done
        before = None if held.present is None else held.present[..., :-count]
        mask = _mask(before, torch.arange(count, device=keys.device), count)
        weights = attention_weights(call, query, held.keys, mask)
        outputs.append(weigh_values(weights, query, held.values))
        if window.received is not None:
            seen = weights[..., -window.used :].mean(dim=2).flatten(0, 1)
            received = window.received[:, : window.used]
            if growth.watched == "newest":
                received.copy_(seen[:, -1])
            else:
                received.add_(seen.sum(dim=1))
        done = stop
    return torch.cat(outputs, dim=2)


def _check_positions(contents: LayerContents, positions: object) -> None:
    if not isinstance(positions, Tensor) or positions.dim() != 2:
        return
    first = positions[:, 0].expand(contents.batch).tolist()
    for begins, ends in zip(first, contents.next_positions, strict=True):
        if begins < ends:
            raise RequestError(
                f"begins at position {begins}, but the cache holds a sequence up to position {ends - 1}",
                field="input_ids",
                remedy="give a new prompt a new cache",
            )


def _attend_dense(contents: LayerContents, call: AttentionCall) -> Tensor:
    held = _held(contents, _dense(contents.prompt, call.key.dtype))
    new = call.key.shape[2]
    key, value = torch.cat([held.keys, call.key], dim=2), torch.cat([held.values, call.value], dim=2)
    places = torch.arange(new, device=key.device)
    outputs = []
    for query, at in zip(torch.split(call.query, QUERY_CHUNK, 2), torch.split(places, QUERY_CHUNK), strict=True):
        outputs.append(masked_attention(call, query, key, value, _mask(held.present, at, new)))
    return torch.cat(outputs, dim=2)


class _Dense(NamedTuple):
    """Tokens out of their compressed form, oldest first."""

    keys: Tensor
    """``[batch, kv_heads, tokens, head_dim]``, as the values."""
    values: Tensor
    present: Tensor | None
    """bool ``[batch, kv_heads, tokens]``, false where a shorter head is filled up; None if none is."""


def _dense(part: Operands, dtype: torch.dtype) -> _Dense:
    keys, values, lengths = materialize(part, dtype)
    present = torch.arange(keys.shape[2], device=keys.device) < lengths[:, :, None]
    return _Dense(keys, values, None if bool(present.all()) else present)


def _held(contents: LayerContents, prompt: _Dense) -> _Dense:
    """All that is held; ``prompt`` is :attr:`LayerContents.prompt`."""
    parts, dtype, window = [prompt], prompt.keys.dtype, contents.window
    if contents.generated is not None:
        parts.append(_dense(contents.generated, dtype))
    if window is not None and window.used:
        keys, values = (tokens.unflatten(0, prompt.keys.shape[:2]).to(dtype) for tokens in window.tokens())
        parts.append(_Dense(keys, values, None))
    keys, values = torch.cat([part.keys for part in parts], dim=2), torch.cat([part.values for part in parts], dim=2)
    present = prompt.present
    if present is not None:
        present = F.pad(present, (0, keys.shape[2] - present.shape[2]), value=True)
    return _Dense(keys, values, present)


def _mask(present: Tensor | None, queries: Tensor, new: int) -> Tensor:
    """For :func:`masked_attention`: ``queries`` are places among the ``new`` newest tokens, and see those up to their
    own; ``present`` is of the tokens before, None if all of them are there."""
    causal = causal_mask(queries, torch.arange(new, device=queries.device), None)
    if present is None:
        return causal
    before = present[:, :, None, None].expand(-1, -1, -1, len(queries), -1)
    return torch.cat([before, causal.expand(*before.shape[:-1], -1)], dim=-1)


def _receive(window: ResidualWindow, received: Tensor, call: AttentionCall, lse: Tensor, newest_only: bool) -> None:
    """Add the attention of one query to what the residual window's tokens received, float32 ``[rows, used]``."""
    keys, _ = window.tokens()
    rows = keys.shape[0]
    scores = (call.query.reshape(rows, -1, keys.shape[2]).float() @ keys.float().mT).mul_(call.scaling)
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    weights = (scores - lse.view(rows, -1, 1)).exp_().mean(dim=1)
    if newest_only:
        received.copy_(weights)
    else:
        received.add_(weights)
