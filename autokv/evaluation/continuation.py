"""Running the model on from a context that has been compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from autokv.compression.on_write import LayerWriter
from autokv.evaluation.snapshot import LayerSnapshot, Snapshot
from autokv.models import LoadedModel
from autokv.runtime.attention import AttentionCall, attending, causal_mask, masked_attention
from autokv.runtime.contents import LayerContents
from autokv.runtime.continuing import attend_in_turn, attend_one


class DenseLayer:
    """One sequence's keys and values of one layer, as attention reads them.

    Args:
        keys: ``[1, kv_heads, tokens, head_dim]``.
        values: as ``keys``.
        room: tokens that will be appended.
        writer: what compresses a token that is appended; None keeps it as it is.
    """

    def __init__(self, keys: Tensor, values: Tensor, room: int, writer: LayerWriter | None = None) -> None:
        self._keys, self._values = F.pad(keys, (0, 0, 0, room)), F.pad(values, (0, 0, 0, room))
        self._used, self._writer = keys.shape[2], writer

    def attend(self, call: AttentionCall) -> Tensor:
        """Append the tokens of ``call`` and attend from them."""
        end, device = self._used + call.key.shape[2], call.query.device
        new = self._writer(call.key, call.value) if self._writer else None
        query = self._writer.queries(call.query) if self._writer else call.query
        self._keys[:, :, self._used : end] = new.keys if new else call.key
        self._values[:, :, self._used : end] = new.values if new else call.value
        rows, mask = torch.arange(self._used, end, device=device), None
        self._used = end
        if len(rows) > 1 or call.sliding_window is not None:
            columns = rows if call.sliding_window is None else torch.arange(end, device=device)
            mask = causal_mask(rows, columns, call.sliding_window)
        return masked_attention(call, query, self._keys[:, :, :end], self._values[:, :, :end], mask)


class Source(Protocol):
    """What one sequence continues from."""

    @property
    def next_logits(self) -> Tensor:
        """``[vocabulary]`` float32: what follows the context's last token."""
        ...

    def open(self, layer: LayerSnapshot, room: int) -> LayerContents | DenseLayer:
        """What is held of a layer's context, with room for ``room`` tokens more."""
        ...


@dataclass(frozen=True)
class FullContext:
    """The context as it was: what everything is compared with."""

    next_logits: Tensor

    def open(self, layer: LayerSnapshot, room: int) -> DenseLayer:
        """As :meth:`Source.open`."""
        return DenseLayer(layer.keys, layer.values, room)


class Continuation:
    """The mode of a continuation: sequences that share a prompt, each over its own version of the context.

    A layer is opened when it first runs. With ``capacity`` it is then kept, and new tokens are appended to it; without,
    it is dropped at once, so that a single pass holds one layer of one sequence at a time.
    """

    def __init__(self, snapshot: Snapshot, sources: Sequence[Source], capacity: int = 0) -> None:
        self._snapshot = snapshot
        self._sources = sources
        self._capacity = capacity
        self._layers: dict[tuple[int, int], LayerContents | DenseLayer] = {}

    def attend(self, call: AttentionCall) -> Tensor:
        outputs = []
        for index, source in enumerate(self._sources):
            one = slice(index, index + 1)
            part = replace(call, query=call.query[one], key=call.key[one], value=call.value[one])
            held = self._layers.get((index, call.layer))
            if held is None:
                held = source.open(self._snapshot.layers[call.layer], self._capacity or call.key.shape[2])
            if self._capacity:
                self._layers[index, call.layer] = held
            if isinstance(held, DenseLayer):
                outputs.append(held.attend(part))
            else:
                by_kernels = call.query.shape[2] == 1 and held.growth.has_kernels
                outputs.append((attend_one if by_kernels else attend_in_turn)(held, part))
        return torch.cat(outputs)


def continuation_logits(
    model: LoadedModel, snapshot: Snapshot, tokens: Sequence[int], sources: Sequence[Source]
) -> Tensor:
    """Feed ``tokens`` behind the context, once for every source, in one forward pass.

    Returns:
        ``[sources, tokens, vocabulary]`` float32 logits: what generating ``tokens`` one by one would give.
    """
    ids = torch.tensor([list(tokens)], device=model.device).expand(len(sources), -1)
    return _forward(model, Continuation(snapshot, sources), ids, snapshot.tokens)


def greedy(
    model: LoadedModel, snapshot: Snapshot, sources: Sequence[Source], max_tokens: int, stop: frozenset[int]
) -> list[list[int]]:
    """Greedy continuation of every source, all in one batch, until a token of ``stop`` (left out) or ``max_tokens``."""
    mode = Continuation(snapshot, sources, capacity=max_tokens)
    answers: list[list[int]] = [[] for _ in sources]
    current = [int(source.next_logits.argmax()) for source in sources]
    alive = [token not in stop for token in current]
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
