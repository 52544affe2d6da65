"""The time that compressing a prompt takes, by stage."""

from __future__ import annotations

from functools import partial
from typing import Any

from autokv.config import CompressionConfig, NoStage
from autokv.evaluation.baselines import UNCOMPRESSED
from autokv.evaluation.costs.forms import held_tokens, only_eviction, stored_form, without_eviction
from autokv.evaluation.costs.layers import Layers
from autokv.evaluation.costs.points import bent, ladder
from autokv.evaluation.costs.timing import Run, Stopwatch
from autokv.runtime.plan import Plan, make_plan
from autokv.runtime.prompt import compress_prompt
from autokv.serving.curves import Curve

SHORTEST = 64
LAYER_SECONDS = 1.0
"""A stage is measured until one layer of a prompt takes so long, and drawn on from there."""
RUNS, FEW_RUNS = 3, 2
RATIO, WIDE_RATIO = 4.0, 16.0
"""Between two sizes of prompts; the latter of each where few points have to do."""


def compression_of_prompts(layers: Layers, plan: Plan, stopwatch: Stopwatch, longest: int, *, thorough: bool) -> Curve:
    """Tokens of a prompt to seconds of compressing it, all layers.

    Scores and the choice of what stays are timed over the whole prompt, quantization and low rank over what stays.
    """
    sizes, count, pipeline = ladder(SHORTEST, longest), len(layers.full), plan.config.pipeline
    points, limit = [0.0] * len(sizes), float(sizes[-1])
    evicts = plan.eviction is not None
    if evicts:
        chooses = make_plan(layers.model.model, only_eviction(plan.config))
        stage = {"kind": "eviction", "eviction": pipeline.eviction.model_dump(mode="json")}
        curve = _curve(layers, chooses, stopwatch, stage, longest, thorough)
        points, limit = [curve(size) for size in sizes], curve.measured_to
    if not evicts or pipeline.quantization != NoStage() or pipeline.low_rank != NoStage():
        stores = make_plan(layers.model.model, without_eviction(plan.config))
        curve = _curve(layers, stores, stopwatch, _storing(plan.config), longest, thorough)
        points = [point + curve(held_tokens(plan, size)) for point, size in zip(points, sizes, strict=True)]
        if evicts:
            # Both were timed with what storing in 16 bits takes at least; together they store once.
            bare = make_plan(layers.model.model, UNCOMPRESSED)
            once = _curve(layers, bare, stopwatch, _storing(UNCOMPRESSED), longest, thorough)
            points = [
                max(0.0, point - once(held_tokens(plan, size))) for point, size in zip(points, sizes, strict=True)
            ]
        limit = min(limit, max((size for size in sizes if held_tokens(plan, size) <= curve.measured_to), default=0))
    return Curve.fit([(size, count * point) for size, point in zip(sizes, points, strict=True)], limit=limit)


def _storing(config: CompressionConfig) -> dict[str, Any]:
    return {"kind": "storing a prompt", **stored_form(config)}


def _curve(
    layers: Layers, plan: Plan, stopwatch: Stopwatch, stage: dict[str, Any], longest: int, thorough: bool
) -> Curve:
    """Tokens to seconds of one layer."""
    measured: list[tuple[int, float]] = []
    for tokens in ladder(SHORTEST, longest, RATIO if thorough else WIDE_RATIO):
        prepare = partial(_prepare, layers, plan, stopwatch, tokens)
        runs = RUNS if thorough else FEW_RUNS
        seconds = stopwatch.seconds(layers.shape, stage, 1, tokens, prepare, runs=runs)
        measured.append((tokens, seconds))
        if seconds > LAYER_SECONDS:
            break
    return Curve.fit(bent(measured, longest), limit=measured[-1][0])


def _prepare(layers: Layers, plan: Plan, stopwatch: Stopwatch, tokens: int) -> Run:
    index = len(layers.full) // 2
    prompt = layers.prompt(layers.full[index], tokens)
    return stopwatch.timed(lambda: compress_prompt(plan, prompt, index), before=lambda: layers.arrive(prompt))
