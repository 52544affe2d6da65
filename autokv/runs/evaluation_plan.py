"""Which context lengths and which batch a tuning run evaluates, and why no larger ones."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from autokv.errors import RequestError
from autokv.evaluation.clock import clock_us
from autokv.models import LoadedModel, ModelFacts
from autokv.models.context import crosses
from autokv.tuning.request import TuningRequest
from autokv.workload import WorkloadTrace, context_lengths, mean_concurrency

DEFAULT_CONTEXT_TOKENS = 1024
SHORTEST_CAP = 256
"""Time and memory budgets never cap contexts below this."""
MEMORY_SHARE = 0.4
"""Of the memory that is free when the run starts, for the prefills that are kept."""
MAX_BATCH = {"cpu": 4, "cuda": 64}
"""Sequences over which decode attention is timed at most, by kind of device: time goes with them, ratios hardly do."""
_PROBE_TOKENS = 256


@dataclass(frozen=True)
class EvaluationPlan:
    """Context lengths in tokens, one per prompt; ``notes`` say aloud what was capped, by what, and at what cost."""

    calibration: tuple[int, ...]
    validation: tuple[int, ...]
    notes: tuple[str, ...]
    batch: int = 1
    """Sequences that decode attention is timed over."""


def plan_evaluation(
    request: TuningRequest, model: LoadedModel, trace: WorkloadTrace | None, prefill_budget_s: float
) -> EvaluationPlan:
    """Choose the context lengths of a run, and the batch of its timings.

    A trace gives them by its quantiles, else ``context_tokens`` does; the prompts of a file have their own, and only
    their number counts. They are capped by the model's own context, by ``max_context_tokens``, by ``prefill_budget_s``
    seconds of prefills as measured here, and by free memory. The batch is the trace's mean concurrency
    (:func:`autokv.workload.mean_concurrency`), 1 without a trace.

    Raises:
        RequestError: the context asked for exceeds the model's.
    """
    batch, batch_notes = _batch(trace, model.device.type)
    limit = model.facts.context_tokens - request.continuation_tokens
    asked = request.context_tokens
    if asked is not None and asked > limit:
        raise RequestError(
            f"{asked} and {request.continuation_tokens} continuation tokens exceed the model's context of "
            f"{model.facts.context_tokens}",
            field="context_tokens",
            remedy=f"use at most {limit}",
        )
    if request.prompts is not None:
        note = f"{_prompts(request.samples, request.validation_samples)} of their own lengths"
        lengths = (limit,) * request.samples, (limit,) * request.validation_samples
        return EvaluationPlan(*lengths, (note, *batch_notes), batch)
    caps = {"the model's context": limit}
    if request.max_context_tokens:
        caps["max_context_tokens"] = request.max_context_tokens
    reason = min(caps, key=lambda name: caps[name])
    cap = caps[reason]
    rate = prefill_rate(model)
    room = psutil.virtual_memory().available * MEMORY_SHARE
    while cap // 2 >= SHORTEST_CAP:
        calibration, validation = _lengths(request, trace, cap, model.facts)
        seconds = sum(_prefill_operations(model, length) / rate for length in calibration + validation)
        held = sum(max(calibration, validation, key=sum)) * _bytes_per_token(model)
        if seconds <= prefill_budget_s and held <= room:
            break
        reason = f"the {prefill_budget_s:.0f} s budget for prefills" if seconds > prefill_budget_s else "free memory"
        cap //= 2
    calibration, validation = _lengths(request, trace, cap, model.facts)
    seconds = sum(_prefill_operations(model, length) / rate for length in calibration + validation)
    low, high = min(calibration), max(calibration)
    notes = [
        f"{_prompts(len(calibration), len(validation))}, contexts of "
        + (f"{low}" if low == high else f"{low} to {high}")
        + f" tokens; about {seconds:.0f} s of prefills"
    ]
    if trace is not None:
        beyond = context_lengths(trace, 1, cap).beyond_cap
        if beyond:
            notes.append(
                f"{beyond:.1%} of the trace's requests are longer than the {cap} tokens that {reason} allows: "
                "nothing was measured at their length"
            )
    elif asked is not None and high < asked:
        notes.append(f"contexts of {asked} tokens were asked for; {reason} allows {high}")
    return EvaluationPlan(calibration, validation, (*notes, *batch_notes), batch)


def _prompts(calibration: int, validation: int) -> str:
    return f"{calibration} calibration and {validation} validation prompt{'' if validation == 1 else 's'}"


def _batch(trace: WorkloadTrace | None, kind: str) -> tuple[int, tuple[str, ...]]:
    """Sequences to time attention over, and what to say of them."""
    if trace is None:
        return 1, ()
    concurrency = mean_concurrency(trace)
    batch = min(max(1, round(concurrency)), MAX_BATCH[kind])
    sequences = f"{batch} sequence{'' if batch == 1 else 's'}"
    note = f"decode attention is timed over {sequences} at once; the trace keeps {concurrency:.3g} requests in flight"
    return batch, (note,)


def prefill_rate(model: LoadedModel) -> float:
    """Floating-point operations per second of a short prefill, measured now (the faster of two runs)."""
    ids = torch.zeros((1, _PROBE_TOKENS), dtype=torch.long, device=model.device)

    def run() -> None:
        with torch.inference_mode():
            model.model(ids, use_cache=False, logits_to_keep=1)

    seconds = min(clock_us(run, model.device) for _ in range(2)) / 1e6
    return _prefill_operations(model, _PROBE_TOKENS) / seconds


def _prefill_operations(model: LoadedModel, tokens: int) -> float:
    """Two per weight and token, and for attention four per channel of every earlier token, of which half are seen."""
    facts = model.facts
    return tokens * (2.0 * facts.parameters + 2.0 * tokens * facts.layers * facts.query_heads * facts.head_dim)


def _bytes_per_token(model: LoadedModel) -> float:
    facts = model.facts
    return 2.0 * facts.layers * facts.kv_heads * facts.head_dim * model.dtype.itemsize


def _lengths(
    request: TuningRequest, trace: WorkloadTrace | None, cap: int, facts: ModelFacts
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of calibration and of validation; one whose continuation would cross the switch of LongRoPE is shorter."""
    more = request.continuation_tokens
    counts = request.samples, request.validation_samples
    if trace is not None:
        calibration, validation = (context_lengths(trace, count, cap).lengths for count in counts)
    else:
        length = min(request.context_tokens or DEFAULT_CONTEXT_TOKENS, cap)
        calibration, validation = ((length,) * count for count in counts)
    calibration, validation = (
        tuple(
            (facts.switch_tokens or 0) - more if crosses(facts, length, length + more) else length for length in found
        )
        for found in (calibration, validation)
    )
    return calibration, validation
