"""Attention inside a step of the whole model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from autokv.evaluation.costs.layers import Layers
from autokv.evaluation.costs.sequences import Sequences
from autokv.runtime.attention import AttentionCall
from autokv.runtime.continuing import attend_one
from autokv.runtime.packed import packed_logits
from autokv.runtime.plan import Plan


class AttentionPass:
    """The mode of a whole model's step over ``batch`` sequences, one after the other, as a packed batch decodes.

    Between two layers the model reads its weights, so that attention finds the caches, of the processor and of the
    interpreter, as it does in a server, and leaves them to the rest as it does there.
    """

    def __init__(self, layers: Layers, plan: Plan, sequences: Sequences, batch: int, now: Callable[[], float]) -> None:
        self._model, self._plan, self._now = layers.model, plan, now
        self._contents = {call.layer: contents for call, contents in zip(layers.full, sequences.contents, strict=True)}
        self._batch, self._seconds = batch, 0.0

    def seconds(self) -> tuple[float, float]:
        """Of one step: attention, one layer; and everything else, all layers."""
        self._seconds, start = 0.0, self._now()
        ids = torch.arange(self._batch)
        packed_logits(self._model.model, self._model.facts, self, ids, ids, range(self._batch)).argmax(dim=-1).tolist()
        whole = self._now() - start
        return self._seconds / len(self._contents), whole - self._seconds

    def attend(self, call: AttentionCall) -> Tensor:
        if call.layer not in self._contents:
            return torch.zeros_like(call.query)
        start = self._now()
        output = torch.empty_like(call.query.transpose(1, 2), memory_format=torch.contiguous_format)
        call = replace(call, mask=None, options={})
        for place, contents in enumerate(self._contents[call.layer][: self._batch]):
            one = slice(place, place + 1)
            part = replace(call, query=call.query[:, :, one], key=call.key[:, :, one], value=call.value[:, :, one])
            output[:, place] = attend_one(self._plan, contents, part)[:, :, 0]
        self._seconds += self._now() - start
        return output.transpose(1, 2)
