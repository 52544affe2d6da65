"""The part of a trace that is served: cut to what the model can take, at the rate that is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autokv.errors import WorkloadError
from autokv.workload import WorkloadTrace
from autokv.workload.transform import head, with_rate


def traffic(
    trace: WorkloadTrace,
    *,
    context_tokens: int | None = None,
    rate: float | None = None,
    requests: int | None = None,
    seed: int = 0,
) -> tuple[WorkloadTrace, tuple[str, ...]]:
    """What of ``trace`` is to be served, and in words what was done to it.

    Args:
        trace: the workload.
        context_tokens: longest context of the model; the prompts of longer requests lose their ends.
        rate: requests per second; the arrivals are stretched or squeezed in time, or, where a trace has none, drawn as
            a Poisson process.
        requests: at most so many, from the beginning.
        seed: of drawn arrivals.

    Raises:
        WorkloadError: the trace has no arrivals and no ``rate`` is given.
    """
    notes: list[str] = []
    if requests is not None and len(trace) > requests:
        notes.append(f"the first {requests:,} of {len(trace):,} requests are served")
        trace = head(trace, requests)
    if not trace.timed:
        if rate is None:
            raise WorkloadError(
                "has no arrivals, so nothing is known of its load",
                field=trace.name,
                remedy="say how many requests come per second (rate)",
            )
        notes.append(f"arrivals are drawn as a Poisson process of {rate:g} requests/s")
    elif rate is not None:
        notes.append(f"arrivals are scaled to {rate:g} requests/s")
    if rate is not None:
        trace = with_rate(trace, rate, seed)
    if context_tokens is not None:
        trace, cut = _cut(trace, context_tokens)
        if cut:
            notes.append(f"{cut:.1%} of the requests are cut to the model's context of {context_tokens:,} tokens")
    return trace, tuple(notes)


def _cut(trace: WorkloadTrace, context_tokens: int) -> tuple[WorkloadTrace, float]:
    """Requests within the context, and the share of those that were not; an answer never takes more than half."""
    long = trace.input_tokens + trace.output_tokens > context_tokens
    if not long.any():
        return trace, 0.0
    outputs = np.where(long, np.minimum(trace.output_tokens, context_tokens // 2), trace.output_tokens)
    inputs = np.minimum(trace.input_tokens, context_tokens - outputs)
    return replace(trace, input_tokens=inputs, output_tokens=outputs), float(long.mean())
