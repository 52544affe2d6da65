"""``Comparison``: what serving a trace came to with a compressed cache, with 16 bits and with fp8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autokv.serving.cost_model import Basis
from autokv.serving.engine_options import SLO
from autokv.serving.outcome import Outcome, ServingReport


@dataclass(frozen=True)
class SustainableRate:
    """The highest request rate that was found to be sustained."""

    requests_per_s: float
    """At which they really come, in a closed loop as well; 0 where requests miss the SLO even far below the engine's
    capacity."""
    capacity_per_s: float
    """Requests a second of the engine when it never runs out of them: beyond this every queue grows without end."""
    attainment: float | None
    """Share of requests within the SLO at that rate; None without an SLO."""
    requests: int
    """On which it was tried."""
    simulations: int
    limited_by_slo: bool = False
    """Whether the SLO is missed before the engine is full."""
    sample: str = ""
    """Which requests of a long trace these are, and how well they stand for it."""


@dataclass(frozen=True, eq=False)
class Run:
    """One engine's outcome on the trace."""

    name: str
    outcome: Outcome
    report: ServingReport
    """Its notes say what was extrapolated or predicted."""
    concurrent_requests: float
    """Mean requests that fit into memory at once."""
    max_rate: SustainableRate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Figures ready for JSON, without the requests' own."""
        return {
            "name": self.name,
            **self.report.to_dict(),
            "concurrent_requests": self.concurrent_requests,
            "max_rate": None if self.max_rate is None else asdict(self.max_rate),
        }


@dataclass(frozen=True)
class Gain:
    """What the candidate changes against one baseline; ``None`` where one of them has no such figure."""

    concurrent_requests: float
    """Ratio: 2 is twice as many."""
    throughput: float | None
    """Ratio of output tokens a second."""
    goodput: float | None
    """Ratio of requests a second within the SLO."""
    ttft_p95_ms: float | None
    """Difference; negative is faster."""
    tpot_p50_ms: float | None
    max_rate: float | None
    """Ratio of the maximum sustainable rates."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A candidate beside its baselines on one trace, all under the same options and the same SLO."""

    trace: str
    requests_per_s: float | None
    """Of the trace as it was served; None where all requests arrive at once."""
    closed_loop: bool
    """Whether turns of a conversation wait for the end of those before them."""
    slo: SLO
    slo_is_default: bool
    candidate: Run
    full: Run | None
    """16 bits."""
    float8: Run | None
    impossible: Mapping[str, str]
    """Baselines that cannot serve here at all, and why."""
    memory_short: bool | None
    """Whether requests are served later with 16 bits than they would be with unlimited memory."""
    attention_share: float | None
    """Share of decode attention in a 16-bit decoding step of the mean batch at the mean context."""
    basis: Basis = "measured"
    """Where the costs come from."""
    predicted: str | None = None
    """How they were predicted, where they were not measured on the device that serves."""
    verdict: str = ""
    """What the candidate buys on this trace, in words (:func:`autokv.serving.verdict.verdict`)."""

    def gain(self, baseline: Run) -> Gain:
        """What the candidate changes against ``baseline``."""
        new, old = self.candidate, baseline
        return Gain(
            concurrent_requests=new.concurrent_requests / old.concurrent_requests,
            throughput=_ratio(new.report.throughput_tokens_per_s, old.report.throughput_tokens_per_s),
            goodput=_ratio(new.report.goodput_requests_per_s, old.report.goodput_requests_per_s),
            ttft_p95_ms=_difference(new.report.ttft_ms.get("p95"), old.report.ttft_ms.get("p95")),
            tpot_p50_ms=_difference(new.report.tpot_ms.get("p50"), old.report.tpot_ms.get("p50")),
            max_rate=None
            if new.max_rate is None or old.max_rate is None
            else _ratio(new.max_rate.requests_per_s, old.max_rate.requests_per_s),
        )

    @property
    def runs(self) -> tuple[Run, ...]:
        """The candidate, then the baselines that could serve."""
        return tuple(run for run in (self.candidate, self.full, self.float8) if run is not None)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        figures = {name: value for name, value in vars(self).items() if name not in ("candidate", "full", "float8")}
        return {
            **figures,
            "slo": asdict(self.slo),
            "runs": [run.to_dict() for run in self.runs],
            "gains": {run.name: asdict(self.gain(run)) for run in self.runs[1:]},
            "impossible": dict(self.impossible),
        }


def _ratio(new: float | None, old: float | None) -> float | None:
    return None if new is None or not old else new / old


def _difference(new: float | None, old: float | None) -> float | None:
    return None if new is None or old is None else new - old
