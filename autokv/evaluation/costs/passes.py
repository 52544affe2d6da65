"""Attention inside a step of the whole model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from autokv.evaluation.costs.layers import Layers
from autokv.evaluation.costs.sequences import Sequences
from autokv.runtime.attention import AttentionCall
from autokv.runtime.continuing import attend_one
from autokv.runtime.packed import packed_logits
from autokv.runtime.plan import Plan


class StepSeconds(NamedTuple):
    """A step's time in parts. Where other processes interrupt some layers, medians over layers hardly notice."""

    attention: float
    """Of one layer, median."""
    between: float
    """From one layer's attention to the next layer's, median."""
    rest: float
    """Everything but attention, all layers."""


class AttentionPass:
    """The mode of a whole model's step over ``batch`` sequences, one after the other, as a packed batch decodes.

    Between two layers the model reads its weights, so that attention finds the caches, of the processor and of the
    interpreter, as it does in a server, and leaves them to the rest as it does there.
    """

    def __init__(self, layers: Layers, plan: Plan, sequences: Sequences, batch: int, now: Callable[[], float]) -> None:
        self._model, self._plan, self._now = layers.model, plan, now
        self._contents = {call.layer: contents for call, contents in zip(layers.full, sequences.contents, strict=True)}
        self._batch = batch
        self._calls: list[tuple[float, float]] = []
        """When each layer's attention began and ended."""

    def seconds(self) -> StepSeconds:
        """Of one step."""
        self._calls, start = [], self._now()
        ids = torch.arange(self._batch)
        packed_logits(self._model.model, self._model.facts, self, ids, ids, range(self._batch)).argmax(dim=-1).tolist()
        whole = self._now() - start
        attention = [end - begin for layer, (begin, end) in enumerate(self._calls) if layer in self._contents]
        between = [begin - end for (_, end), (begin, _) in pairwise(self._calls)]
        return StepSeconds(median(attention), median(between or [0.0]), whole - sum(attention))

    def attend(self, call: AttentionCall) -> Tensor:
        begin = self._now()
        output = torch.zeros_like(call.query) if call.layer not in self._contents else self._attended(call)
        self._calls.append((begin, self._now()))
        return output

    def _attended(self, call: AttentionCall) -> Tensor:
        output = torch.empty_like(call.query.transpose(1, 2), memory_format=torch.contiguous_format)
        call = replace(call, mask=None, options={})
        for place, contents in enumerate(self._contents[call.layer][: self._batch]):
            one = slice(place, place + 1)
            part = replace(call, query=call.query[:, :, one], key=call.key[:, :, one], value=call.value[:, :, one])
            output[:, place] = attend_one(self._plan, contents, part)[:, :, 0]
        return output.transpose(1, 2)
