"""Queries behind a compressed context: one by the kernels, several by way of the tokens themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.errors import RequestError
from autokv.kernels.reconstruct import materialize
from autokv.runtime.attention import QUERY_CHUNK, AttentionCall, causal_mask, masked_attention
from autokv.runtime.contents import LayerContents
from autokv.runtime.plan import Plan
from autokv.runtime.residual_window import ResidualWindow


def attend_one(plan: Plan, contents: LayerContents, call: AttentionCall) -> Tensor:
    """Append one token and attend from it: ``[batch, query_heads, 1, head_dim]``."""
    contents.room()
    window = contents.append(call.key.flatten(0, 1), call.value.flatten(0, 1))
    attention = plan.kernels.decode_attention(call.query[:, :, 0], contents.parts(), call.scaling, softcap=call.softcap)
    if window.received is not None:
        _receive(window, window.received[:, : window.used], call, attention.lse, plan.watched == "newest")
    return attention.output[:, :, None]


def attend_several(plan: Plan, contents: LayerContents, call: AttentionCall) -> Tensor:
    """Attend from several tokens, and append them: ``[batch, query_heads, new, head_dim]``.

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
                scores = plan.kernels.window_scores(call.query, call.key, call.scaling, softcap=call.softcap)
                received = scores.flatten(0, 1)
            window.received[:, window.used - (stop - done) : window.used] = received[:, done:stop]
        done = stop
    return output


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
    batch, kv_heads, new, _ = call.key.shape
    keys, values, present = [], [], []
    for part in contents.parts():
        key, value, lengths = materialize(part, call.key.dtype)
        keys.append(key)
        values.append(value)
        present.append(torch.arange(key.shape[2], device=key.device) < lengths[:, :, None])
    key, value = torch.cat([*keys, call.key], dim=2), torch.cat([*values, call.value], dim=2)
    held = torch.cat(present, dim=2)[:, :, None, None]
    places = torch.arange(new, device=key.device)
    outputs = []
    for query, at in zip(torch.split(call.query, QUERY_CHUNK, 2), torch.split(places, QUERY_CHUNK), strict=True):
        causal = causal_mask(at, places, None).expand(batch, kv_heads, 1, -1, -1)
        mask = torch.cat([held.expand(-1, -1, -1, len(at), -1), causal], dim=-1)
        outputs.append(masked_attention(call, query, key, value, mask))
    return torch.cat(outputs, dim=2)


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
