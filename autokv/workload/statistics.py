"""A trace in figures: lengths, rates, bursts, requests in flight, reuse of prefixes, conversations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autokv.workload.reuse import reuse_at, reused_tokens
from autokv.workload.series import TOKENS_PER_SECOND, in_flight
from autokv.workload.trace import RejectedRows, WorkloadTrace, percentiles

WINDOWS_S = (1.0, 10.0, 60.0, 600.0, 3600.0)
MIN_WINDOWS, MAX_WINDOWS = 10, 1_000_000
"""Fewer windows say nothing of bursts; more are not counted."""
CACHE_BLOCKS = 4
"""Each cache size that is tried holds so many times the blocks of the one before."""


@dataclass(frozen=True)
class Bursts:
    """Arrivals counted in windows of one length."""

    window_s: float
    dispersion: float
    """Variance of the counts over their mean (index of dispersion): 1 for Poisson arrivals, more in bursts."""
    peak_to_mean: float
    """Requests of the fullest window over those of the mean one."""


@dataclass(frozen=True)
class Arrivals:
    """When requests come; only for traces with arrivals."""

    requests_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float
    interarrival_cv: float
    """Standard deviation of the gaps over their mean: 1 for Poisson arrivals, more in bursts."""
    bursts: tuple[Bursts, ...]


@dataclass(frozen=True)
class Concurrency:
    """Requests in flight between the first and the last arrival, if each answers at a steady rate."""

    tokens_per_second: float
    """Output tokens of one request per second, as assumed."""
    mean: float
    p95: float
    """Reached or exceeded for a twentieth of the time."""
    peak: int


@dataclass(frozen=True)
class Reuse:
    """Prompts that begin as earlier ones did."""

    block_tokens: int
    share: float
    """Prompt tokens that a cache which forgets nothing spares, among all."""
    requests: float
    """Requests that find at least one block, among all."""
    caches: tuple[tuple[int, float], ...]
    """Tokens that a least-recently-used cache holds, and the share it spares."""


@dataclass(frozen=True)
class Sessions:
    """Conversations."""

    count: int
    mean_turns: float
    max_turns: int
    later_turns: float
    """Requests that are not the first of their conversation, among all."""
    median_gap_s: float | None
    """Between one turn's arrival and the next one's; ``None`` without arrivals or second turns."""


@dataclass(frozen=True)
class TraceStatistics:
    """Everything that ``autokv trace inspect`` shows. Lengths are keyed ``mean``, ``p50`` to ``p99`` and ``max``."""

    name: str
    format: str
    requests: int
    duration_s: float
    input_tokens: Mapping[str, float]
    output_tokens: Mapping[str, float]
    arrivals: Arrivals | None
    concurrency: Concurrency | None
    reuse: Reuse | None
    sessions: Sessions | None
    rejected: RejectedRows

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def statistics_of(trace: WorkloadTrace, tokens_per_second: float = TOKENS_PER_SECOND) -> TraceStatistics:
    """Measure ``trace``; each request in flight is taken to answer ``tokens_per_second``."""
    return TraceStatistics(
        name=trace.name,
        format=trace.format,
        requests=len(trace),
        duration_s=float(trace.arrival_s[-1]),
        input_tokens=_lengths(trace.input_tokens),
        output_tokens=_lengths(trace.output_tokens),
        arrivals=_arrivals(trace) if trace.timed else None,
        concurrency=_concurrency(trace, tokens_per_second) if trace.timed else None,
        reuse=_reuse(trace),
        sessions=_sessions(trace),
        rejected=trace.rejected,
    )


def _lengths(tokens: NDArray[np.int64]) -> dict[str, float]:
    return {"mean": float(tokens.mean()), **percentiles(tokens), "max": float(tokens.max())}


def _arrivals(trace: WorkloadTrace) -> Arrivals:
    duration = float(trace.arrival_s[-1])
    gaps = np.diff(trace.arrival_s)
    counts = ((window, _counts(trace, window)) for window in WINDOWS_S)
    return Arrivals(
        requests_per_s=len(trace) / duration,
        input_tokens_per_s=float(trace.input_tokens.sum()) / duration,
        output_tokens_per_s=float(trace.output_tokens.sum()) / duration,
        interarrival_cv=float(gaps.std() / gaps.mean()),
        bursts=tuple(
            Bursts(window, float(count.var() / count.mean()), float(count.max() / count.mean()))
            for window, count in counts
            if count is not None
        ),
    )


def _counts(trace: WorkloadTrace, window_s: float) -> NDArray[np.int64] | None:
    """Requests of each whole window; ``None`` where there are too few or too many windows."""
    windows = int(trace.arrival_s[-1] // window_s)
    if not MIN_WINDOWS <= windows <= MAX_WINDOWS:
        return None
    within = trace.arrival_s[trace.arrival_s < windows * window_s]
    return np.bincount((within / window_s).astype(np.int64), minlength=windows)


def _concurrency(trace: WorkloadTrace, tokens_per_second: float) -> Concurrency:
    times, counts = in_flight(trace, tokens_per_second)
    duration = float(trace.arrival_s[-1])
    lasting = np.diff(np.minimum(np.append(times, times[-1]), duration))
    order = np.argsort(counts)
    longest = np.cumsum(lasting[order])
    p95 = counts[order][np.searchsorted(longest, 0.95 * longest[-1])]
    return Concurrency(tokens_per_second, float((counts * lasting).sum() / duration), float(p95), int(counts.max()))


def _reuse(trace: WorkloadTrace) -> Reuse | None:
    if trace.prefixes is None:
        return None
    reused = reused_tokens(trace)
    distinct = len(np.unique(trace.prefixes.hashes))
    blocks, sizes = 1, []
    while blocks < CACHE_BLOCKS * distinct:
        sizes.append(blocks * trace.prefixes.block_tokens)
        blocks *= CACHE_BLOCKS
    return Reuse(
        block_tokens=trace.prefixes.block_tokens,
        share=float(reused.sum() / trace.input_tokens.sum()),
        requests=float((reused > 0).mean()),
        caches=tuple(zip(sizes, reuse_at(trace, sizes), strict=True)),
    )


def _sessions(trace: WorkloadTrace) -> Sessions | None:
    if trace.session is None:
        return None
    turns = np.unique(trace.session, return_counts=True)[1]
    order = np.argsort(trace.session, kind="stable")
    same = np.diff(trace.session[order]) == 0
    gaps = np.diff(trace.arrival_s[order])[same]
    return Sessions(
        count=len(turns),
        mean_turns=float(turns.mean()),
        max_turns=int(turns.max()),
        later_turns=trace.later_turns,
        median_gap_s=float(np.median(gaps)) if trace.timed and len(gaps) else None,
    )
