"""The part of a trace that is served: cut to what the model can take, at the rate that is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autokv.errors import WorkloadError
from autokv.serving.closed_loop import NOBODY, open_loop, recorded_arrivals, turns_before
from autokv.workload import WorkloadTrace
from autokv.workload.excerpt import excerpt
from autokv.workload.readers.columns import counted
from autokv.workload.transform import head, with_rate


def traffic(
    trace: WorkloadTrace,
    *,
    context_tokens: int | None = None,
    rate: float | None = None,
    requests: int | None = None,
    sample: int | None = None,
    closed_loop: bool = True,
    seed: int = 0,
) -> tuple[WorkloadTrace, tuple[str, ...]]:
    """What of ``trace`` is to be served, and in words what was done to it.

    Args:
        trace: the workload.
        context_tokens: longest context of the model; the prompts of longer requests lose their ends.
        rate: requests per second; the arrivals are stretched or squeezed in time, or, where a trace has none, drawn as
            a Poisson process.
        requests: at most so many, from the beginning.
        sample: at most so many, from all over the trace (:func:`~autokv.workload.excerpt.excerpt`).
        closed_loop: whether turns of a conversation wait for those before them, where the trace knows conversations.
        seed: of drawn arrivals.

    Raises:
        WorkloadError: the trace has no arrivals and no ``rate`` is given.
    """
    notes: list[str] = []
    if requests is not None and len(trace) > requests:
        session = np.empty(0) if trace.session is None else trace.session
        ends = len(np.intersect1d(session[:requests], session[requests:]))
        notes.append(
            f"the first {requests:,} of {len(trace):,} requests are served"
            + (f", which cuts {counted(ends, 'conversation')}" if ends else "")
        )
        trace = head(trace, requests)
    if sample is not None:
        trace, said = excerpt(trace, sample)
        notes += [f"served: {said}"] if said else []
    if trace.session is not None:
        trace, said = _turns(trace, closed_loop)
        notes += [said] if said else []
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


def _turns(trace: WorkloadTrace, closed_loop: bool) -> tuple[WorkloadTrace, str]:
    """The trace with or without its conversations, and what that means; nothing where none has a second turn."""
    later = int((turns_before(trace) != NOBODY).sum())
    if not later:
        return open_loop(trace), ""
    if not closed_loop:
        return open_loop(trace), f"open loop: {later:,} later turns do not wait for the end of the turn before them"
    delays = recorded_arrivals(trace)
    known = int(np.isnan(delays).sum())
    when = "after the delay that the trace states"
    if known < later:
        when = "at its own time at the earliest" + (f", or ({known:,} of them) {when}" if known else "")
    return trace, f"closed loop: each of {later:,} later turns comes when the turn before it has ended, {when}"


def _cut(trace: WorkloadTrace, context_tokens: int) -> tuple[WorkloadTrace, float]:
    """Requests within the context, and the share of those that were not; an answer never takes more than half."""
    long = trace.input_tokens + trace.output_tokens > context_tokens
    if not long.any():
        return trace, 0.0
    outputs = np.where(long, np.minimum(trace.output_tokens, context_tokens // 2), trace.output_tokens)
    inputs = np.minimum(trace.input_tokens, context_tokens - outputs)
    return replace(trace, input_tokens=inputs, output_tokens=outputs), float(long.mean())
