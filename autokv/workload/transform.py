"""Traces from traces: a part of one, at another rate, with other lengths. What is left begins at 0 seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import MAX_ARRIVAL_NS, MAX_TOKENS
from autokv.workload.synthesis import Poisson, check_positive
from autokv.workload.trace import WorkloadTrace

SHORTEST_S, LONGEST_S = 1e-9, MAX_ARRIVAL_NS / 1e9
"""Between the first and the last arrival."""


def window(trace: WorkloadTrace, start_s: float = 0.0, end_s: float = float("inf")) -> WorkloadTrace:
    """The requests that arrive from ``start_s`` on and before ``end_s``, in seconds from the first arrival.

    Raises:
        WorkloadError: none does.
    """
    first, beyond = np.searchsorted(trace.arrival_s, [start_s, end_s])
    return _part(
        trace,
        np.arange(first, beyond),
        f"no request arrives from {start_s:,.6g} s {'on' if end_s == float('inf') else f'to {end_s:,.6g} s'}",
        f"the trace lasts {trace.arrival_s[-1]:,.6g} s",
    )


def head(trace: WorkloadTrace, requests: int) -> WorkloadTrace:
    """The first ``requests``, or all where there are fewer.

    Raises:
        WorkloadError: ``requests`` is not positive.
    """
    kept = np.arange(min(max(0, requests), len(trace)))
    return _part(trace, kept, f"{requests} requests are asked for", "ask for at least 1")


def sample(trace: WorkloadTrace, share: float, seed: int = 0) -> WorkloadTrace:
    """Each request with the probability ``share``; where there are sessions, each session, whole.

    Arrivals stay as they are, so that the rate falls by ``share``. The same arguments give the same requests.

    Raises:
        WorkloadError: ``share`` is not above 0 and at most 1, or nothing was drawn.
    """
    if not 0 < share <= 1:
        raise WorkloadError(f"is {share}", field="share", remedy="give more than 0 and at most 1")
    whole = np.arange(len(trace)) if trace.session is None else np.unique(trace.session, return_inverse=True)[1]
    drawn = np.random.default_rng(seed).random(int(whole.max()) + 1) < share
    return _part(trace, np.flatnonzero(drawn[whole]), "the sample is empty", "take a larger share or another seed")


def at_most(
    trace: WorkloadTrace, *, input_tokens: int | None = None, output_tokens: int | None = None
) -> WorkloadTrace:
    """Without the requests that have more tokens.

    Raises:
        WorkloadError: every request has.
    """
    kept = np.ones(len(trace), dtype=np.bool_)
    for limit, tokens in ((input_tokens, trace.input_tokens), (output_tokens, trace.output_tokens)):
        if limit is not None:
            kept &= tokens <= limit
    return _part(trace, np.flatnonzero(kept), "every request has more tokens than that", "allow more tokens")


def scale_rate(trace: WorkloadTrace, factor: float) -> WorkloadTrace:
    """The same requests, ``factor`` times as many a second; bursts keep their form.

    Delays between the turns of a conversation shrink as the times between arrivals do.

    Raises:
        WorkloadError: ``factor`` is not a positive number, so small that the trace lasts for centuries or so large
            that it takes no time, or the trace has no arrivals.
    """
    check_positive(factor, "rate scale")
    if not trace.timed:
        raise WorkloadError(
            "has no arrivals to scale", field=trace.name, remedy="give a rate, which draws Poisson arrivals"
        )
    moments = trace.arrival_s / factor
    if not SHORTEST_S <= moments[-1] <= LONGEST_S:
        raise WorkloadError(
            f"{factor:g} makes the trace last for {moments[-1]:.2g} s",
            field="rate scale",
            remedy="give one nearer to 1",
        )
    delays = None if trace.delay_s is None else trace.delay_s / factor
    return replace(trace, arrival_s=moments, delay_s=delays)


def with_rate(trace: WorkloadTrace, requests_per_s: float, seed: int = 0) -> WorkloadTrace:
    """The same requests at ``requests_per_s`` on average; a trace without arrivals gets Poisson ones.

    Raises:
        WorkloadError: the rate is not a positive number.
    """
    check_positive(requests_per_s, "rate")
    rate = trace.summary().requests_per_s
    if rate is not None:
        return scale_rate(trace, requests_per_s / rate)
    return replace(trace, arrival_s=Poisson(requests_per_s).draw(np.random.default_rng(seed), len(trace)))


def repeated(trace: WorkloadTrace, times: int) -> WorkloadTrace:
    """The trace, ``times`` times over, all copies at its own times; no copy shares prefixes or conversations with
    another."""
    count = len(trace)
    places = np.tile(np.arange(count), times)
    copy = np.repeat(np.arange(times), count)
    made = trace.take(places)
    if made.session is not None:
        made = replace(made, session=np.where(made.session < 0, made.session, made.session * times + copy))
    if made.prefixes is not None:
        _, hashes = np.unique(made.prefixes.hashes, return_inverse=True)
        of_hash = np.repeat(copy, np.diff(made.prefixes.offsets))
        made = replace(made, prefixes=replace(made.prefixes, hashes=hashes.astype(np.int64) * times + of_hash))
    order = np.argsort(made.arrival_s, kind="stable")
    return made.take(order)


def scale_lengths(trace: WorkloadTrace, factor: float) -> WorkloadTrace:
    """Inputs and outputs of ``factor`` times the tokens, rounded, at least 1. Blocks of prefixes scale with them.

    A block keeps at least one token, so that strong shrinking makes shared prefixes longer than their share.

    Raises:
        WorkloadError: ``factor`` is not a positive number, or makes a request longer than any reader takes.
    """
    check_positive(factor, "length scale")
    if max(trace.input_tokens.max(), trace.output_tokens.max()) * factor > MAX_TOKENS:
        raise WorkloadError(
            f"{factor:g} makes a request longer than {MAX_TOKENS:,} tokens", field="length scale", remedy="give less"
        )
    prefixes = trace.prefixes
    return replace(
        trace,
        input_tokens=scaled(trace.input_tokens, factor),
        output_tokens=scaled(trace.output_tokens, factor),
        prefixes=prefixes and replace(prefixes, block_tokens=max(1, round(prefixes.block_tokens * factor))),
    )


def scaled(tokens: NDArray[np.int64], factor: float) -> NDArray[np.int64]:
    """``factor`` times as many tokens, rounded, at least 1."""
    found: NDArray[np.int64] = np.maximum(1, np.rint(tokens * factor)).astype(np.int64)
    return found


def _part(trace: WorkloadTrace, kept: NDArray[np.int64], empty: str, remedy: str) -> WorkloadTrace:
    if not len(kept):
        raise WorkloadError(empty, field=trace.name, remedy=remedy)
    part = trace.take(kept)
    return replace(part, arrival_s=part.arrival_s - part.arrival_s[0])
