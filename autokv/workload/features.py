"""What a trace asks of a model and its device, in the few figures by which scenarios are told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autokv.workload.concurrency import mean_concurrency
from autokv.workload.reuse import reused_tokens
from autokv.workload.trace import WorkloadTrace

MEMORY_SHARE = 0.9
"""Share of a device's memory that a server uses, as vLLM does."""


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


def features_of(
    trace: WorkloadTrace,
    *,
    context_tokens: int,
    kv_bytes_per_token: float,
    weights_bytes: float,
    memory_bytes: float | None,
) -> Features:
    """Measure ``trace``; the arguments are those of :func:`autokv.workload.scenarios.classify`."""
    inputs, outputs = trace.input_tokens, trace.output_tokens
    request_p95 = float(np.percentile(np.minimum(inputs + outputs, context_tokens), 95))
    cache = request_p95 * kv_bytes_per_token
    free = None if memory_bytes is None else memory_bytes * MEMORY_SHARE - weights_bytes
    return Features(
        output_p50=float(np.percentile(outputs, 50)),
        request_p95=request_p95,
        prompt_share=float(inputs.sum() / (inputs.sum() + outputs.sum())),
        reuse=float(reused_tokens(trace).sum() / inputs.sum()),
        later_turns=later_turns(trace),
        concurrency=mean_concurrency(trace) if trace.timed else None,
        cache_to_weights=cache / weights_bytes,
        memory_share=None if free is None else cache / free if free > 0 else math.inf,
    )


def later_turns(trace: WorkloadTrace) -> float:
    """Share of the requests that are not the first of their conversation; 0 without sessions."""
    if trace.session is None:
        return 0.0
    return 1 - len(np.unique(trace.session)) / len(trace)
