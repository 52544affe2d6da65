"""Queries behind a compressed context: one by the kernels, several by way of the tokens themselves.

Several tokens come as a chunk, which sees itself in full precision, or in turn, each as a token that was generated.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from autokv.errors import RequestError
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
        _receive(window, _weights(window, call, attention.lse), growth.watched == "newest")
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
    held = _Dense(contents, call.key.dtype, call.query.shape[2])
    if contents.blocks_are_alike:
        return _attend_at_once(contents, call, held)
    keys, values, new = call.key.flatten(0, 1), call.value.flatten(0, 1), call.query.shape[2]
    outputs, done, newest_only = [], 0, contents.growth.watched == "newest"
    while done < new:
        stop = min(done + contents.room(), new)
        window = contents.append(keys[:, done:stop], values[:, done:stop])
        held.read(contents)
        query, count = call.query[:, :, done:stop], stop - done
        weights = attention_weights(call, query, held.keys, held.mask(torch.arange(count, device=keys.device), count))
        outputs.append(weigh_values(weights, query, held.values))
        if window.received is not None:
            seen = weights[..., -window.used :].mean(dim=2).flatten(0, 1)
            _receive(window, seen[:, -1] if newest_only else seen.sum(dim=1), newest_only)
        done = stop
    return torch.cat(outputs, dim=2)


def _attend_at_once(contents: LayerContents, call: AttentionCall, held: _Dense) -> Tensor:
    """:func:`attend_in_turn` where all that leaves the residual window is encoded at once."""
    held.read(contents)
    new, end = call.query.shape[2], held.tokens
    begin = end - contents.window.used
    *exact, left = contents.append_in_turn(call.key.flatten(0, 1), call.value.flatten(0, 1))
    held.put(begin, *exact)
    generated, most, encoded = contents.generated, left[-1], list[Tensor]()
    if generated and most:
        encoded = [side[:, :, -most:] for side in materialize(generated, call.key.dtype)[:2]]
    done, known, outputs = 0, 0, []
    while done < new:
        count, leaves = left.count(left[done]), left[done]
        if leaves > known:
            held.put(begin + known, *(side[:, :, known:leaves] for side in encoded))
        held.tokens, known = end + done + count, leaves
        query, places = call.query[:, :, done : done + count], torch.arange(count, device=call.key.device)
        outputs.append(masked_attention(call, query, held.keys, held.values, held.mask(places, count)))
        done += count
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
    new = call.key.shape[2]
    held = _Dense(contents, call.key.dtype, new)
    held.read(contents)
    held.put(held.tokens, call.key, call.value)
    held.tokens += new
    places = torch.arange(new, device=call.key.device)
    outputs = []
    for query, at in zip(torch.split(call.query, QUERY_CHUNK, 2), torch.split(places, QUERY_CHUNK), strict=True):
        outputs.append(masked_attention(call, query, held.keys, held.values, held.mask(at, new)))
    return torch.cat(outputs, dim=2)


class _Dense:
    """What a layer holds, out of its compressed form, oldest first, with room for ``new`` tokens more."""

    def __init__(self, contents: LayerContents, dtype: torch.dtype, new: int) -> None:
        keys, values, lengths = materialize(contents.prompt, dtype)
        self._prompt = self.tokens = keys.shape[2]
        present = torch.arange(self._prompt, device=keys.device) < lengths[:, :, None]
        self._present = None if bool(present.all()) else present
        generated = contents.generated
        room = contents.window.used + new + (generated.older.longest if generated else 0)
        self._keys, self._values = F.pad(keys, (0, 0, 0, room)), F.pad(values, (0, 0, 0, room))

    @property
    def keys(self) -> Tensor:
        """``[batch, kv_heads, tokens, head_dim]``."""
        return self._keys[:, :, : self.tokens]

    @property
    def values(self) -> Tensor:
        """As :attr:`keys`."""
        return self._values[:, :, : self.tokens]

    def read(self, contents: LayerContents) -> None:
        """Take what stands behind the prompt anew."""
        self.tokens = self._prompt
        if contents.generated is not None:
            keys, values, _ = materialize(contents.generated, self._keys.dtype)
            self.put(self.tokens, keys, values)
            self.tokens += keys.shape[2]
        self.put(self.tokens, *contents.window.tokens())
        self.tokens += contents.window.used

    def put(self, place: int, keys: Tensor, values: Tensor) -> None:
        """Write ``n`` tokens, of shape ``[batch, kv_heads, n, head_dim]`` or ``[rows, n, head_dim]``, at ``place``."""
        for side, tokens in ((self._keys, keys), (self._values, values)):
            side[:, :, place : place + tokens.shape[-2]] = tokens.reshape(*side.shape[:2], *tokens.shape[-2:])

    def mask(self, queries: Tensor, new: int) -> Tensor:
        """For :func:`masked_attention`: ``queries`` are places among the ``new`` newest tokens."""
        causal = causal_mask(queries, torch.arange(new, device=queries.device), None)
        if self._present is None:
            return causal
        before = F.pad(self._present, (0, self.tokens - self._prompt - new), value=True)[:, :, None, None]
        before = before.expand(-1, -1, -1, len(queries), -1)
        return torch.cat([before, causal.expand(*before.shape[:-1], -1)], dim=-1)


def _weights(window: ResidualWindow, call: AttentionCall, lse: Tensor) -> Tensor:
    """The attention of one query to the residual window's tokens, mean over its group, float32 ``[rows, used]``."""
    keys, _ = window.tokens()
    rows = keys.shape[0]
    scores = (call.query.reshape(rows, -1, keys.shape[2]).float() @ keys.float().mT).mul_(call.scaling)
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    return (scores - lse.view(rows, -1, 1)).exp_().mean(dim=1)


def _receive(window: ResidualWindow, weights: Tensor, newest_only: bool) -> None:
    """Note what the window's tokens received, ``[rows, used]``: the newest query's attention, or that of all so far."""
    if window.received is not None:
        received = window.received[:, : window.used]
        (received.copy_ if newest_only else received.add_)(weights)
