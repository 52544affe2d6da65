"""What no configuration changes: a pass without attention, and attention within a prompt."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Literal

import torch
from torch import Tensor

from autokv.evaluation.costs.layers import Layers, NoAttention
from autokv.evaluation.costs.passes import AttentionPass
from autokv.evaluation.costs.points import bent, ladder
from autokv.evaluation.costs.sequences import Sequences
from autokv.evaluation.costs.timing import Run, Stopwatch, Timed
from autokv.runtime.attention import AttentionCall, prefill_attention
from autokv.runtime.packed import packed_logits
from autokv.runtime.plan import Plan
from autokv.serving.curves import Curve

FEW = 16
"""Tokens of a pass up to which sizes are measured more closely, and as steps that decode."""
SHORTEST = 16
"""Tokens of a prompt from which attention within it is measured."""
LAYER_SECONDS = 1.0
"""Attention within a prompt is measured until one layer of it takes so long, and drawn on from there."""


def rest_of_the_model(layers: Layers, plan: Plan, stopwatch: Stopwatch, max_tokens: int, max_batch: int) -> Curve:
    """Tokens of a pass to seconds without attention; the head runs over as many of them as may decode at once.

    Args:
        layers: of the model.
        plan: 16 bits.
        stopwatch: what times.
        max_tokens: of a pass.
        max_batch: requests that decode at once.
    """
    few = min(FEW, max_tokens)
    points = []
    for tokens in sorted({*ladder(1, few, 1.5), *ladder(few, max_tokens)}):
        if tokens <= min(few, max_batch) and layers.model.device.type == "cpu":
            seconds = beside_attention(layers, plan, stopwatch, tokens, "rest")
        else:
            seconds = _pass(layers, stopwatch, tokens, min(tokens, max_batch))
        points.append((tokens, seconds))
    return Curve.fit(points)


def attention_within_prompts(layers: Layers, stopwatch: Stopwatch, longest: int) -> Curve:
    """Tokens of a prompt to seconds of its attention to itself, all layers."""
    kinds = {call.sliding_window: call for call in (*layers.full, *layers.sliding)}
    count = {window: sum(one.sliding_window == window for one in (*layers.full, *layers.sliding)) for window in kinds}
    measured: list[tuple[int, float]] = []
    for tokens in ladder(SHORTEST, longest):
        seconds = {window: _attend(layers, stopwatch, call, tokens) for window, call in kinds.items()}
        measured.append((tokens, sum(count[window] * seconds[window] for window in kinds)))
        if max(seconds.values()) > LAYER_SECONDS:
            break
    return Curve.fit(bent(measured, longest), limit=measured[-1][0])


def beside_attention(
    layers: Layers, plan: Plan, stopwatch: Stopwatch, batch: int, part: Literal["between", "rest"]
) -> float:
    """A part of a step of ``batch`` sequences that does attend, see
    :class:`~autokv.evaluation.costs.passes.StepSeconds`: attention leaves the processor's caches to the rest otherwise
    than nothing does.

    ``plan`` is that of 16 bits.
    """

    def prepare() -> Run:
        sequences = Sequences(layers, plan, SHORTEST, batch, joined=False)
        step = AttentionPass(layers, plan, sequences, batch, stopwatch.now)

        def run() -> Timed:
            sequences.open(1)
            return Timed(getattr(step.seconds(), part))

        return run

    kind = "a step beside its attention" if part == "rest" else "a step from one attention to the next"
    return stopwatch.seconds(layers.shape, {"kind": kind}, batch, SHORTEST, prepare, scaled=part == "rest")


def _pass(layers: Layers, stopwatch: Stopwatch, tokens: int, rows: int) -> float:
    stage = {"kind": "a pass without attention", "rows": rows}
    step = bare_pass(layers, tokens, rows)
    return stopwatch.seconds(layers.shape, stage, 1, tokens, lambda: stopwatch.timed(step))


def bare_pass(layers: Layers, tokens: int, rows: int) -> Callable[[], None]:
    """A pass of the model over ``tokens`` whose attention costs nothing, with logits for the last ``rows`` of them."""
    model = layers.model
    ids = torch.arange(tokens) % model.facts.vocab_size
    positions = torch.arange(tokens) % model.facts.context_tokens

    def step() -> None:
        logits = packed_logits(model.model, model.facts, NoAttention(), ids, positions, range(tokens - rows, tokens))
        logits.argmax(dim=-1).tolist()

    return step


class _EnoughError(Exception):
    """A pass has gone through as many layers as it should."""


class _FirstLayers(NoAttention):
    """The mode of a pass that ends within its layer ``last``; notes when each layer attends."""

    def __init__(self, last: int, now: Callable[[], float]) -> None:
        super().__init__()
        self._last, self._now = last, now
        self.times = [now()]

    def attend(self, call: AttentionCall) -> Tensor:
        self.times.append(self._now())
        if call.layer == self._last:
            raise _EnoughError
        return super().attend(call)


def first_layers(layers: Layers, share: float, tokens: int, now: Callable[[], float]) -> Callable[[], Timed]:
    """A pass over ``tokens`` through the first ``share`` of the layers, whose attention costs nothing; beside its
    seconds, what it takes where no layer is interrupted: the median layer's, so many times over."""
    model = layers.model
    ids, last = torch.arange(tokens) % model.facts.vocab_size, math.ceil(share * model.facts.layers) - 1

    def step() -> Timed:
        mode = _FirstLayers(last, now)
        with suppress(_EnoughError):
            packed_logits(model.model, model.facts, mode, ids, torch.arange(tokens), [0])
        each = [end - begin for begin, end in pairwise(mode.times)]
        return Timed(sum(each), len(each) * median(each))

    return step


def _attend(layers: Layers, stopwatch: Stopwatch, call: AttentionCall, tokens: int) -> float:
    def prepare() -> Run:
        prompt = layers.prompt(call, tokens)
        output = torch.empty_like(prompt.query.transpose(1, 2))

        def attend() -> None:
            # As a packed batch does it: keys and values into memory of their own, the output into its place.
            keys, values = (now.clone(memory_format=torch.contiguous_format) for now in (prompt.key, prompt.value))
            output[:] = prefill_attention(replace(prompt, key=keys, value=values)).transpose(1, 2)

        return stopwatch.timed(attend, before=lambda: layers.arrive(prompt))

    stage = {"kind": "attention within a prompt", "window": call.sliding_window}
    return stopwatch.seconds(layers.shape, stage, 1, tokens, prepare)
