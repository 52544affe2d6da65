"""Running the model on from a context that has been compressed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from autokv.evaluation.snapshot import LayerSnapshot, Snapshot
from autokv.models import LoadedModel
from autokv.runtime.attention import AttentionCall, attending, causal_mask, masked_attention
from autokv.runtime.contents import LayerContents
from autokv.runtime.continuing import attend_in_turn, attend_one

Source = Callable[[LayerSnapshot], LayerContents]
"""What one sequence continues from: a layer's compressed context, which then grows as the runtime's does. Asked for
layers with full attention only; those with a sliding window are left as they are."""


@dataclass
class _Layer:
    """One sequence's keys and values of one layer in full precision, with room for the tokens to come."""

    keys: Tensor
    values: Tensor
    used: int

    @classmethod
    def of(cls, layer: LayerSnapshot, room: int) -> _Layer:
        return cls(F.pad(layer.keys, (0, 0, 0, room)), F.pad(layer.values, (0, 0, 0, room)), layer.keys.shape[2])

    def attend(self, call: AttentionCall) -> Tensor:
        new, device = call.key.shape[2], call.query.device
        end = self.used + new
        self.keys[:, :, self.used : end] = call.key
        self.values[:, :, self.used : end] = call.value
        rows, mask = torch.arange(self.used, end, device=device), None
        self.used = end
        if new > 1 or call.sliding_window is not None:
            columns = rows if call.sliding_window is None else torch.arange(end, device=device)
            mask = causal_mask(rows, columns, call.sliding_window)
        return masked_attention(call, call.query, self.keys[:, :, :end], self.values[:, :, :end], mask)


class Continuation:
    """The mode of a continuation: sequences that share a prompt, each over its own version of the context.

    A source of ``None`` is the context as it was, which everything is compared with. A layer's context is asked for
    when the layer first runs. With ``capacity`` it is then kept, and new tokens are appended to it; without, it is
    dropped at once, so that a single pass holds one layer of one sequence at a time.
    """

    def __init__(self, snapshot: Snapshot, sources: Sequence[Source | None], capacity: int = 0) -> None:
        self._snapshot = snapshot
        self._sources = sources
        self._capacity = capacity
        self._layers: dict[tuple[int, int], _Layer | LayerContents] = {}

    def attend(self, call: AttentionCall) -> Tensor:
        outputs = []
        for index, source in enumerate(self._sources):
            one = slice(index, index + 1)
            part = replace(call, query=call.query[one], key=call.key[one], value=call.value[one])
            held = self._layers.get((index, call.layer)) or self._open(source, call)
            if self._capacity:
                self._layers[index, call.layer] = held
            if isinstance(held, _Layer):
                outputs.append(held.attend(part))
            else:
                attend = attend_one if call.query.shape[2] == 1 else attend_in_turn
                outputs.append(attend(held, part))
        return torch.cat(outputs)

    def _open(self, source: Source | None, call: AttentionCall) -> _Layer | LayerContents:
        layer = self._snapshot.layers[call.layer]
        if source is None or layer.window is not None:
            return _Layer.of(layer, self._capacity or call.key.shape[2])
        return source(layer)


def continuation_logits(
    model: LoadedModel, snapshot: Snapshot, tokens: Sequence[int], sources: Sequence[Source | None]
) -> Tensor:
    """Feed ``tokens`` behind the context, once for every source, in one forward pass.

    Returns:
        ``[sources, tokens, vocabulary]`` float32 logits: what generating ``tokens`` one by one would give.
    """
    ids = torch.tensor([list(tokens)], device=model.device).expand(len(sources), -1)
    return _forward(model, Continuation(snapshot, sources), ids, snapshot.tokens)


def greedy(
    model: LoadedModel, snapshot: Snapshot, sources: Sequence[Source | None], max_tokens: int, stop: frozenset[int]
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
