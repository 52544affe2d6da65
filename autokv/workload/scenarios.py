"""Deployment scenarios: what a trace and a model say about which compression can pay, and which must not be tried.

The seven scenarios are those of a survey of KV-cache optimisation (arXiv 2603.20397). Each gets a weight, from 0 where
nothing points to it to 1 where it is clearly there; weights are independent, because a trace may be several at once. A
weight is a :func:`ramp` over a measured feature of :class:`Features`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from autokv.errors import WorkloadError, nearest
from autokv.workload.reuse import reused_tokens
from autokv.workload.series import mean_concurrency
from autokv.workload.trace import WorkloadTrace

CLEAR = 0.5
"""A scenario of at least this weight can decide."""
FALLBACK = "minimal-modification"
"""What weighs as much as is left by the weightiest of the others."""
MEMORY_SHARE = 0.9
"""Share of a device's memory that a server uses, as vLLM does."""


@dataclass(frozen=True)
class ScenarioKind:
    """One scenario: what it is, and what a search should try and optimise in it."""

    name: str
    description: str
    space: str
    """Search space, by name."""
    objectives: tuple[str, ...]
    """Metrics, at most four."""
    because: str
    """Why this space and these objectives."""
    source: str


SCENARIOS: Mapping[str, ScenarioKind] = {
    kind.name: kind
    for kind in (
        ScenarioKind(
            name="reasoning",
            description="accuracy-critical reasoning: long answers, in which an early error is carried on",
            space="lossless-leaning",
            objectives=("kl_divergence", "kv_bytes_per_token", "tpot_ms"),
            because="errors add up over a long answer, so 8 and 4 bits with little or no eviction; "
            "nearly all of the time goes into decoding",
            source="2603.20397; 8-bit keys and values as in llama.cpp, LeanKV (2024)",
        ),
        ScenarioKind(
            name="multi-turn",
            description="conversations and shared prefixes: a cache serves questions that it has not seen yet",
            space="multi-turn",
            objectives=("kl_divergence", "kv_bytes_per_token", "ttft_ms"),
            because="a token that one question does not need may be what the next one asks for, so nothing is evicted; "
            "caches are kept between turns, and what is kept need not be prefilled again",
            source="2603.20397; KIVI (2024), RocketKV-MT (2025) and KVzip (2025) on why eviction fails here",
        ),
        ScenarioKind(
            name="ultra-long-request",
            description="single requests with very long contexts, whose caches weigh on every decode step",
            space="long-context",
            objectives=("kl_divergence", "kv_bytes_per_token", "tpot_ms"),
            because="of so many tokens few matter: eviction, then compression of what stays",
            source="2603.20397; SnapKV (2024), AdaKV (2024), PyramidKV (2024)",
        ),
        ScenarioKind(
            name="edge",
            description="tight memory: what is left beside the weights holds few requests",
            space="edge",
            objectives=("kl_divergence", "kv_bytes_per_token", "tpot_ms"),
            because="bytes decide what runs at all, so few bits, few tokens and cheap scorers",
            source="2603.20397; KIVI (2024), SnapKV (2024), StreamingLLM (2023)",
        ),
        ScenarioKind(
            name="prefill-heavy",
            description="long prompts with short answers: the first token is most of the wait",
            space="balanced",
            objectives=("kl_divergence", "ttft_ms", "kv_bytes_per_token"),
            because="requests wait for prefills and for memory rather than for decoding, so time to first token, "
            "compression included, and bytes count",
            source="2603.20397; NACL (2024), LayerKV (2024)",
        ),
        ScenarioKind(
            name="data-center",
            description="high throughput: many requests in flight share a device",
            space="throughput",
            objectives=("kl_divergence", "goodput_requests_per_s", "concurrent_requests"),
            because="what counts is how many requests fit and are served in time: forms that fast kernels read, "
            "and cheap uniform eviction",
            source="2603.20397; PagedAttention (2023), QServe (2024)",
        ),
        ScenarioKind(
            name=FALLBACK,
            description="nothing stands out: methods that work on any model as it is",
            space="balanced",
            objectives=("kl_divergence", "kv_bytes_per_token", "tpot_ms"),
            because="no specific traffic pattern found; using defaults",
            source="2603.20397; AdaKV (2024), SnapKV (2024), KIVI (2024)",
        ),
    )
}
"""Every scenario, the one that forbids most first: its methods serve the later ones too, but not the reverse."""


@dataclass(frozen=True)
class Features:
    """Measured on one trace, for one model and device; shares are fractions."""

    output_p50: float
    """Tokens of the median answer."""
    request_p95: float
    """Tokens of a request, prompt and answer, 95th percentile; no more than the model's context."""
    prompt_share: float
    """Prompt tokens among all tokens."""
    reuse: float
    """Prompt tokens with which an earlier prompt began too, among all prompt tokens; 0 without block hashes."""
    later_turns: float
    """Requests that are not the first of their conversation, among all; 0 without sessions."""
    concurrency: float | None
    """Mean requests in flight; ``None`` without arrivals."""
    cache_to_weights: float
    """16-bit cache of a request at ``request_p95``, over the bytes of the weights: what a decode step of a lone
    request reads."""
    memory_share: float | None
    """The same cache over the memory beside the weights; infinite where nothing is left, ``None`` where the memory is
    not known."""


@dataclass(frozen=True)
class Scenario:
    """Which scenario decides a search, and how clearly each of the seven is there."""

    weights: Mapping[str, float]
    """Scenario to weight, 0 to 1, in the order of :data:`SCENARIOS`."""
    name: str
    """The scenario that decides."""
    why: tuple[str, ...]
    """Sentences: what was measured, the deciding scenario's first."""
    space: str
    objectives: tuple[str, ...]

    def overruled(self, name: str) -> Scenario:
        """The same weights with another scenario deciding.

        Raises:
            WorkloadError: there is no such scenario.
        """
        kind = scenario_kind(name)
        why = (f"{name} was asked for: {kind.because}", *self.why)
        return replace(self, name=name, why=why, space=kind.space, objectives=kind.objectives)


def scenario_kind(name: str) -> ScenarioKind:
    """The scenario of that name.

    Raises:
        WorkloadError: there is none.
    """
    if name not in SCENARIOS:
        remedy = nearest(name, SCENARIOS) or f"choose from {', '.join(SCENARIOS)}, or leave it to the trace"
        raise WorkloadError(f"{name:.100} is unknown", field="scenario", remedy=remedy)
    return SCENARIOS[name]


def classify(
    trace: WorkloadTrace,
    *,
    context_tokens: int,
    kv_bytes_per_token: float,
    weights_bytes: float,
    memory_bytes: float | None = None,
) -> Scenario:
    """Weigh every scenario; the first of :data:`SCENARIOS` that is clear decides, else the weightiest.

    Args:
        trace: the traffic.
        context_tokens: longest context of the model; longer requests are taken to be cut there.
        kv_bytes_per_token: bytes of a 16-bit cache per token.
        weights_bytes: bytes of the model's weights.
        memory_bytes: of the device; without it, tight memory cannot be seen.
    """
    evidence = _evidence(_features(trace, context_tokens, kv_bytes_per_token, weights_bytes, memory_bytes))
    weights = {name: evidence[name][0] for name in SCENARIOS}
    clear = [name for name, weight in weights.items() if weight >= CLEAR]
    name = clear[0] if clear else max(weights, key=lambda each: weights[each])
    kind = SCENARIOS[name]
    weightiest = sorted(SCENARIOS, key=lambda each: -weights[each])
    others = [each for each in weightiest if each not in (name, FALLBACK) and weights[each] > 0]
    why = (
        f"{name} ({weights[name]:.2f}): {'; '.join(dict.fromkeys((evidence[name][1], kind.because)))}",
        *(f"{each} ({weights[each]:.2f}): {evidence[each][1]}" for each in others),
    )
    return Scenario(weights, name, why, kind.space, kind.objectives)


def ramp(value: float, low: float, high: float, *, logarithmic: bool = False) -> float:
    """0 up to ``low``, 1 from ``high`` on, and a straight line between, of the logarithm where that is asked for."""
    if value <= low or value >= high:
        return float(value >= high)
    if logarithmic:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _features(
    trace: WorkloadTrace,
    context_tokens: int,
    kv_bytes_per_token: float,
    weights_bytes: float,
    memory_bytes: float | None,
) -> Features:
    inputs, outputs = trace.input_tokens, trace.output_tokens
    request_p95 = float(np.percentile(np.minimum(inputs + outputs, context_tokens), 95))
    cache = request_p95 * kv_bytes_per_token
    free = None if memory_bytes is None else memory_bytes * MEMORY_SHARE - weights_bytes
    return Features(
        output_p50=float(np.percentile(outputs, 50)),
        request_p95=request_p95,
        prompt_share=float(inputs.sum() / (inputs.sum() + outputs.sum())),
        reuse=float(reused_tokens(trace).sum() / inputs.sum()),
        later_turns=trace.later_turns,
        concurrency=mean_concurrency(trace) if trace.timed else None,
        cache_to_weights=cache / weights_bytes,
        memory_share=None if free is None else cache / free if free > 0 else math.inf,
    )


def _evidence(found: Features) -> dict[str, tuple[float, str]]:
    """Scenario to its weight and what was measured, as a clause."""
    crowd = 0.0 if found.concurrency is None else ramp(found.concurrency, 8, 64, logarithmic=True)
    flight = "the trace has no arrivals" if found.concurrency is None else f"{found.concurrency:.3g} requests in flight"
    turns = ramp(found.later_turns, 0.1, 0.5), f"{found.later_turns:.0%} of the requests go on with a conversation"
    reuse = ramp(found.reuse, 0.1, 0.4), f"{found.reuse:.0%} of the prompt tokens were seen before"
    long = min(
        ramp(found.request_p95, 8192, 65536, logarithmic=True),
        ramp(found.cache_to_weights, 0.1, 0.5, logarithmic=True),
    )
    evidence = {
        "reasoning": (
            ramp(found.output_p50, 512, 2048, logarithmic=True),
            f"the median answer has {found.output_p50:,.0f} tokens",
        ),
        "multi-turn": max(turns, reuse),
        "edge": (
            0.0 if found.memory_share is None else ramp(found.memory_share, 0.05, 0.5, logarithmic=True),
            ""
            if found.memory_share is None
            else "the weights leave no memory for a cache"
            if math.isinf(found.memory_share)
            else f"a p95-length request takes {found.memory_share:.0%} of the memory for KV caches",
        ),
        "ultra-long-request": (
            long * (1 - crowd),
            f"a request of the 95th percentile has {found.request_p95:,.0f} tokens, whose cache is "
            f"{found.cache_to_weights:.2g} times as large as the weights; {flight}",
        ),
        "prefill-heavy": (
            ramp(found.prompt_share, 0.85, 0.98),
            f"{found.prompt_share:.1%} of the tokens are prompts",
        ),
        "data-center": (crowd, flight),
    }
    rest = 1 - max(weight for weight, _ in evidence.values())
    return {**evidence, FALLBACK: (rest, "no specific traffic pattern found; using defaults")}
