"""What a pass over prompts costs: the model without attention, attention within a prompt, and compressing it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autokv.config import CompressionConfig, NoStage
from autokv.evaluation.baselines import UNCOMPRESSED
from autokv.evaluation.costs.decode import beside_attention
from autokv.evaluation.costs.synthetic import (
    Layers,
    NoAttention,
    held_tokens,
    only_eviction,
    stored_form,
    without_eviction,
)
from autokv.evaluation.costs.timing import Run, Stopwatch, Timed, bent, ladder
from autokv.runtime.attention import AttentionCall, prefill_attention
from autokv.runtime.packed import packed_logits
from autokv.runtime.plan import Plan, make_plan
from autokv.runtime.prompt import compress_prompt
from autokv.serving.curves import Curve

FEW = 16
"""Tokens of a pass up to which sizes are measured more closely, and as steps that decode."""
SHORTEST = 16
"""Tokens of a prompt from which attention within it is measured."""
SHORTEST_COMPRESSED = 64
"""Tokens of a prompt from which compressing it is measured."""
LAYER_SECONDS = 1.0
"""Attention within a prompt, or a stage of compressing it, is measured until one layer of it takes so long, and drawn
on from there."""
RUNS, FEW_RUNS = 3, 2
"""Of a stage of compressing; the latter where few points have to do."""
RATIO, WIDE_RATIO = 4.0, 16.0
"""Between two sizes of prompts that are compressed; the latter where few points have to do."""


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
            seconds = beside_attention(layers, plan, stopwatch, tokens)
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


def compression_of_prompts(layers: Layers, plan: Plan, stopwatch: Stopwatch, longest: int, *, thorough: bool) -> Curve:
    """Tokens of a prompt to seconds of compressing it, all layers.

    Scores and the choice of what stays are timed over the whole prompt, quantization and low rank over what stays.
    """
    sizes, count, pipeline = ladder(SHORTEST_COMPRESSED, longest), len(layers.full), plan.config.pipeline
    points, limit = [0.0] * len(sizes), float(sizes[-1])
    evicts = plan.eviction is not None
    if evicts:
        chooses = make_plan(layers.model.model, only_eviction(plan.config))
        stage = {"kind": "eviction", "eviction": pipeline.eviction.model_dump(mode="json")}
        curve = _stage(layers, chooses, stopwatch, stage, longest, thorough)
        points, limit = [curve(size) for size in sizes], curve.measured_to
    if not evicts or pipeline.quantization != NoStage() or pipeline.low_rank != NoStage():
        stores = make_plan(layers.model.model, without_eviction(plan.config))
        curve = _stage(layers, stores, stopwatch, _storing(plan.config), longest, thorough)
        points = [point + curve(held_tokens(plan, size)) for point, size in zip(points, sizes, strict=True)]
        if evicts:
            # Both were timed with what storing in 16 bits takes at least; together they store once.
            bare = make_plan(layers.model.model, UNCOMPRESSED)
            once = _stage(layers, bare, stopwatch, _storing(UNCOMPRESSED), longest, thorough)
            points = [
                max(0.0, point - once(held_tokens(plan, size))) for point, size in zip(points, sizes, strict=True)
            ]
        limit = min(limit, max((size for size in sizes if held_tokens(plan, size) <= curve.measured_to), default=0))
    return Curve.fit([(size, count * point) for size, point in zip(sizes, points, strict=True)], limit=limit)


def _storing(config: CompressionConfig) -> dict[str, Any]:
    return {"kind": "storing a prompt", **stored_form(config)}


def _stage(
    layers: Layers, plan: Plan, stopwatch: Stopwatch, stage: dict[str, Any], longest: int, thorough: bool
) -> Curve:
    """Tokens to seconds of one layer."""
    measured: list[tuple[int, float]] = []
    for tokens in ladder(SHORTEST_COMPRESSED, longest, RATIO if thorough else WIDE_RATIO):
        prepare = partial(_compress, layers, plan, stopwatch, tokens)
        runs = RUNS if thorough else FEW_RUNS
        seconds = stopwatch.seconds(layers.shape, stage, 1, tokens, prepare, runs=runs)
        measured.append((tokens, seconds))
        if seconds > LAYER_SECONDS:
            break
    return Curve.fit(bent(measured, longest), limit=measured[-1][0])


def _compress(layers: Layers, plan: Plan, stopwatch: Stopwatch, tokens: int) -> Run:
    index = len(layers.full) // 2
    prompt = layers.prompt(layers.full[index], tokens)
    return stopwatch.timed(lambda: compress_prompt(plan, prompt, index), before=lambda: layers.arrive(prompt))


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
    """The mode of a pass that ends within its layer ``last``; notes when."""

    def __init__(self, last: int, now: Callable[[], float]) -> None:
        super().__init__()
        self._last, self._now = last, now
        self.end = 0.0

    def attend(self, call: AttentionCall) -> Tensor:
        if call.layer == self._last:
            self.end = self._now()
            raise _EnoughError
        return super().attend(call)


def first_layers(layers: Layers, share: float, tokens: int, now: Callable[[], float]) -> Run:
    """A pass over ``tokens`` through the first ``share`` of the layers, whose attention costs nothing."""
    model = layers.model
    ids, last = torch.arange(tokens) % model.facts.vocab_size, math.ceil(share * model.facts.layers) - 1

    def step() -> Timed:
        mode, start = _FirstLayers(last, now), now()
        with suppress(_EnoughError):
            packed_logits(model.model, model.facts, mode, ids, torch.arange(tokens), [0])
        return Timed(mode.end - start)

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
