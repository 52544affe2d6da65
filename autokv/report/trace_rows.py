"""A trace's figures in words, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator

from autokv.report.format import duration, number
from autokv.workload.statistics import Reuse, TraceStatistics

LENGTH_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")
NAMED_CACHES = 5
"""Cache sizes that are named of a curve of reuse."""


def facts(found: TraceStatistics) -> dict[str, str]:
    """What is known of a trace, by name; what it has no columns for is left out."""
    return dict(_facts(found))


def lengths(found: TraceStatistics) -> list[tuple[str, ...]]:
    """A row of texts for inputs and one for outputs: a name, then :data:`LENGTH_COLUMNS`."""
    return [
        (name, *(f"{tokens[column]:,.0f}" for column in LENGTH_COLUMNS))
        for name, tokens in (("input tokens", found.input_tokens), ("output tokens", found.output_tokens))
    ]


def _facts(found: TraceStatistics) -> Iterator[tuple[str, str]]:
    yield "format", found.format
    yield "requests", f"{found.requests:,}"
    if found.rejected.count:
        lines = ", ".join(map(str, found.rejected.lines))
        more = ", …" if found.rejected.count > len(found.rejected.lines) else ""
        yield "bad rows", f"{found.rejected.count:,} left out (lines {lines}{more}): {found.rejected.reason}"
    if found.arrivals is None:
        yield "arrivals", "none"
    else:
        arrivals = found.arrivals
        yield "duration", duration(found.duration_s)
        yield (
            "rate",
            f"{number(arrivals.requests_per_s)} requests/s, {number(arrivals.input_tokens_per_s)} input and "
            f"{number(arrivals.output_tokens_per_s)} output tokens/s",
        )
        yield "gaps", f"coefficient of variation {number(arrivals.interarrival_cv)} (Poisson: 1)"
        for bursts in arrivals.bursts:
            yield (
                f"counts in {_window(bursts.window_s)}",
                f"dispersion {number(bursts.dispersion)} (Poisson: 1), peak {number(bursts.peak_to_mean)} × the mean",
            )
    if found.concurrency is not None:
        flight = found.concurrency
        yield (
            "in flight",
            f"{number(flight.mean)} on average, {flight.p95:,.0f} at the 95th percentile, {flight.peak:,} at most, "
            f"at {flight.tokens_per_second:g} output tokens/s each",
        )
    if found.reuse is not None:
        yield "prefix reuse", _reuse(found.reuse)
    if found.sessions is not None:
        sessions = found.sessions
        gap = "" if sessions.median_gap_s is None else f", {duration(sessions.median_gap_s)} apart (median)"
        yield (
            "sessions",
            f"{sessions.count:,} of {number(sessions.mean_turns)} turns on average and {sessions.max_turns:,} at "
            f"most{gap}; {sessions.later_turns:.1%} of the requests are later turns",
        )


def _window(seconds: float) -> str:
    size, name = next((size, name) for size, name in ((3600, "h"), (60, "min"), (1, "s")) if seconds >= size)
    return f"{seconds / size:g} {name}"


def _reuse(reuse: Reuse) -> str:
    text = (
        f"{reuse.share:.1%} of the input tokens, {reuse.requests:.1%} of the requests (blocks of "
        f"{reuse.block_tokens:,} tokens)"
    )
    telling = [(tokens, share) for tokens, share in reuse.caches if share > 0][-NAMED_CACHES:]
    parts = [f"{share:.1%} with {tokens:,} tokens" for tokens, share in telling]
    return f"{text}; by size of the cache: {', '.join(parts)}" if parts else text
