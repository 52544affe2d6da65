"""Running the model on from a context that has been compressed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from autokv.evaluation.snapshot import LayerSnapshot, Snapshot
from autokv.models import LoadedModel
from autokv.runtime.attention import AttentionCall, attending, causal_mask, masked_attention

Held = tuple[Tensor, Tensor, Tensor | None]
"""Keys and values ``[1, kv_heads, tokens, head_dim]``, and how many tokens each KV head really has (``None``: all)."""
Source = Callable[[LayerSnapshot], Held]
"""What one sequence holds of a layer's context."""


def full_context(layer: LayerSnapshot) -> Held:
    """The context as it was: the reference that everything is compared with."""
    return layer.keys, layer.values, None


@dataclass
class _Layer:
    """One sequence's keys and values of one layer, with room for the tokens to come."""

    keys: Tensor
    values: Tensor
    context: int
    lengths: Tensor | None
    used: int


class Continuation:
    """The mode of a continuation: sequences that share a prompt, each over its own version of the context.

    A layer's context is asked for when the layer first runs. With ``capacity`` it is then kept, and new tokens are
    appended to it; without, it is dropped at once, so that a single pass holds one layer of one sequence at a time.
    """

    def __init__(self, snapshot: Snapshot, sources: Sequence[Source], capacity: int = 0) -> None:
        self._snapshot = snapshot
        self._sources = sources
        self._capacity = capacity
        self._layers: dict[tuple[int, int], _Layer] = {}

    def attend(self, call: AttentionCall) -> Tensor:
        outputs = []
        for index in range(len(self._sources)):
            layer = self._layers.get((index, call.layer)) or self._open(index, call)
            _append(layer, call.key[index], call.value[index])
            outputs.append(self._attend_one(layer, call, index))
            if not self._capacity:
                del self._layers[index, call.layer]
        return torch.cat(outputs)

    def _open(self, index: int, call: AttentionCall) -> _Layer:
        keys, values, lengths = self._sources[index](self._snapshot.layers[call.layer])
        room = self._capacity or call.key.shape[2]
        tokens = keys.shape[2]
        layer = _Layer(F.pad(keys, (0, 0, 0, room)), F.pad(values, (0, 0, 0, room)), tokens, lengths, tokens)
        self._layers[index, call.layer] = layer
        return layer

    def _attend_one(self, layer: _Layer, call: AttentionCall, index: int) -> Tensor:
        new = call.key.shape[2]
        device = call.query.device
        rows = torch.arange(layer.used - new, layer.used, device=device)
        everywhere = call.sliding_window is not None or layer.lengths is not None
        columns = torch.arange(layer.used, device=device) if everywhere else rows
        mask = None
        if new > 1 or call.sliding_window is not None:
            mask = causal_mask(rows, columns, call.sliding_window)
        if layer.lengths is not None:
            present = (columns < layer.lengths[:, None]) | (columns >= layer.context)
            present = present[:, None, None, :]
            mask = present if mask is None else present & mask
        keys, values = layer.keys[:, :, : layer.used], layer.values[:, :, : layer.used]
        return masked_attention(call, call.query[index : index + 1], keys, values, mask)


def continuation_logits(
    model: LoadedModel, snapshot: Snapshot, tokens: Sequence[int], sources: Sequence[Source]
) -> Tensor:
    """Feed ``tokens`` behind the context, once for every source, in one forward pass.

    Returns:
        ``[sources, tokens, vocabulary]`` float32 logits.
    """
    ids = torch.tensor([list(tokens)], device=model.device).expand(len(sources), -1)
    return _forward(model, Continuation(snapshot, sources), ids, snapshot.tokens)


def greedy(
    model: LoadedModel, snapshot: Snapshot, sources: Sequence[Source], max_tokens: int, stop: frozenset[int]
) -> list[list[int]]:
    """Greedy continuation of every source, all in one batch, until a token of ``stop`` (left out) or ``max_tokens``."""
    mode = Continuation(snapshot, sources, capacity=max_tokens)
    token = int(snapshot.next_logits.argmax())
    answers: list[list[int]] = [[] for _ in sources]
    current = [token] * len(sources)
    alive = [token not in stop] * len(sources)
    for step in range(max_tokens):
        for index, running in enumerate(alive):
            if running:
                answers[index].append(current[index])
        if step + 1 == max_tokens or not any(alive):
            break
        ids = torch.tensor(current, device=model.device)[:, None]
        logits = _forward(model, mode, ids, snapshot.tokens + step)
        current = logits[:, -1].argmax(dim=-1).tolist()
        alive = [running and token not in stop for running, token in zip(alive, current, strict=True)]
    return answers


def _forward(model: LoadedModel, mode: Continuation, ids: Tensor, start: int) -> Tensor:
    positions = torch.arange(start, start + ids.shape[1], device=model.device)[None].expand(len(ids), -1)
    with torch.inference_mode(), attending(mode, model.facts):
        output = model.model(ids, position_ids=positions, use_cache=False)
    logits: Tensor = output.logits.float()
    return logits


def _append(layer: _Layer, key: Tensor, value: Tensor) -> None:
    end = layer.used + key.shape[1]
    layer.keys[0, :, layer.used : end] = key
    layer.values[0, :, layer.used : end] = value
    layer.used = end
