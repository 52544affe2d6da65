"""What serving a trace came to: every request's times, and the figures that an operator is judged by."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autokv.serving.engine_options import SLO

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, eq=False)
class Timeline:
    """Samples over time, evenly spaced as far as iterations allow; all of shape [samples]."""

    time_s: NDArray[np.float64]
    waiting: NDArray[np.int64]
    """Requests that have arrived and hold no memory."""
    running: NDArray[np.int64]
    """Requests in flight: prefilling and decoding."""
    kv_bytes: NDArray[np.float64]
    """KV memory in use, shared prefixes included."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Every request of a trace, served; arrays have the shape [requests], times are seconds from the first arrival.

    A request that the memory can never hold is refused on arrival; its times are NaN.
    """

    arrival_s: NDArray[np.float64]
    """When each came: where turns of a conversation wait for those before them, not always when the trace says."""
    first_token_s: NDArray[np.float64]
    finish_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    """Tokens that were generated."""
    preemptions: NDArray[np.int64]
    """How often each request lost its memory."""
    cached_tokens: NDArray[np.int64]
    """Prompt tokens that a shared prefix spared, at the first admission."""
    iterations: int
    busy_s: float
    """Seconds in which an iteration ran."""
    capacity_bytes: float
    peak_kv_bytes: float
    max_running: int
    timeline: Timeline
    recorded_s: NDArray[np.float64] | None = None
    """Closed loop: when each request arrived in the trace, NaN where the trace does not know; ``None`` in an open loop,
    where requests arrive as in the trace."""

    @property
    def served(self) -> NDArray[np.bool_]:
        """Which requests were not refused."""
        return ~np.isnan(self.finish_s)

    @property
    def ttft_s(self) -> NDArray[np.float64]:
        """Time to first token of the requests that were served."""
        return (self.first_token_s - self.arrival_s)[self.served]

    @property
    def tpot_s(self) -> NDArray[np.float64]:
        """Time per output token after the first, of the served requests that have more than one."""
        many = self.served & (self.output_tokens > 1)
        return (self.finish_s - self.first_token_s)[many] / (self.output_tokens[many] - 1)

    @property
    def e2e_s(self) -> NDArray[np.float64]:
        """Time from arrival to the last token of the requests that were served."""
        return (self.finish_s - self.arrival_s)[self.served]

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last token."""
        return float(np.nanmax(self.finish_s)) if self.served.any() else 0.0

    @property
    def late_s(self) -> NDArray[np.float64]:
        """Shape [requests]: seconds by which each came later than in the trace, as it waited for the turn before."""
        if self.recorded_s is None:
            return np.zeros(len(self.arrival_s))
        return np.nan_to_num(np.maximum(0.0, self.arrival_s - self.recorded_s))

    def good(self, slo: SLO) -> NDArray[np.bool_]:
        """Shape [requests]: which requests were served within ``slo``; one with a single token has no TPOT to miss."""
        good = self.served.copy()
        ttft_ms = 1e3 * (self.first_token_s - self.arrival_s)
        tpot_ms = 1e3 * (self.finish_s - self.first_token_s) / np.maximum(1, self.output_tokens - 1)
        for limit, values in ((slo.ttft_ms, ttft_ms), (slo.tpot_ms, tpot_ms)):
            if limit is not None:
                good &= values <= limit
        return good

    def report(self, slo: SLO | None = None) -> ServingReport:
        """The figures; goodput only with an ``slo``."""
        duration = self.duration_s or 1.0
        good = None if slo is None else self.good(slo)
        return ServingReport(
            requests=len(self.arrival_s),
            refused=int((~self.served).sum()),
            duration_s=self.duration_s,
            ttft_ms=percentiles(1e3 * self.ttft_s),
            tpot_ms=percentiles(1e3 * self.tpot_s),
            e2e_ms=percentiles(1e3 * self.e2e_s),
            throughput_requests_per_s=float(self.served.sum()) / duration,
            throughput_tokens_per_s=float(self.output_tokens[self.served].sum()) / duration,
            goodput_requests_per_s=None if good is None else float(good.sum()) / duration,
            slo_attainment=None if good is None else float(good.mean()),
            preemptions=int(self.preemptions.sum()),
            cached_share=float(self.cached_tokens.sum() / max(1, self.input_tokens[self.served].sum())),
            utilization=self.busy_s / duration,
            max_running=self.max_running,
            peak_kv_bytes=self.peak_kv_bytes,
            capacity_bytes=self.capacity_bytes,
            iterations=self.iterations,
            closed_loop=self.recorded_s is not None,
            late_share=float((self.late_s > 0).mean()),
        )


@dataclass(frozen=True)
class ServingReport:
    """A trace's serving in figures. Percentiles are keyed ``mean``, ``p50``, ``p90``, ``p95``, ``p99`` and ``max``."""

    requests: int
    refused: int
    """Requests that the memory can never hold."""
    duration_s: float
    """From the first arrival to the last token."""
    ttft_ms: dict[str, float]
    tpot_ms: dict[str, float]
    e2e_ms: dict[str, float]
    throughput_requests_per_s: float
    throughput_tokens_per_s: float
    """Output tokens."""
    goodput_requests_per_s: float | None
    """Requests within the SLO."""
    slo_attainment: float | None
    """Share of all requests that are within the SLO."""
    preemptions: int
    cached_share: float
    """Share of prompt tokens that shared prefixes spared."""
    utilization: float
    """Share of the time in which an iteration ran."""
    max_running: int
    peak_kv_bytes: float
    capacity_bytes: float
    iterations: int
    closed_loop: bool = False
    """Whether turns of a conversation waited for the end of those before them."""
    late_share: float = 0.0
    """Share of the requests that came later than in the trace, because the turn before had not ended."""
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "notes": list(self.notes)}


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean, percentiles (linear interpolation) and maximum; empty for no values."""
    if not len(values):
        return {}
    found = {
        f"p{percent}": float(value)
        for percent, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
    }
    return {"mean": float(values.mean()), **found, "max": float(values.max())}
