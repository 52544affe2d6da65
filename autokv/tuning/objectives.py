"""Objectives and constraints: what a measurement is worth, as numbers that are smaller where it is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import METRICS
from autokv.evaluation.naming import label, unit
from autokv.tuning.request import TuningRequest

LOGARITHMIC = {
    "kl_divergence": 1e-4,
    "kv_bytes_per_token": 0.0,
    "compression_ratio": 0.0,
    "attention_us": 0.0,
    "attention_baseline_us": 0.0,
    "attention_fp8_us": 0.0,
    "compress_us": 0.0,
    "ttft_ms": 0.0,
    "ttft_p95_ms": 0.0,
    "tpot_ms": 0.0,
    "tpot_p95_ms": 0.0,
    "throughput_tokens_per_s": 0.0,
    "goodput_requests_per_s": 1e-3,
    "concurrent_requests": 0.0,
}
"""Metrics that count in ratios, and what is added before the logarithm: a divergence well below 1e-4 nats per token
makes no difference that anyone can see, and a goodput may be 0."""
SMALLEST = 1e-300
WIDEST_TIE = 0.1
TIE = 0.03
"""Simulated metrics that differ by a smaller share are equal: a sustained rate is found to within 1.1%, and the ratios
of times behind it to a few percent."""
BESIDE = {"attention_us": "attention_baseline_us", "attention_fp8_us": "attention_baseline_us"}
"""Times that are compared as ratios to a baseline that was timed beside them."""


def loss(name: str, value: float) -> float:
    """The metric's value on the scale on which it is compared: rising as it gets worse, ratios as differences."""
    scaled = math.log(max(value, 0.0) + LOGARITHMIC[name] + SMALLEST) if name in LOGARITHMIC else value
    return -scaled if METRICS[name].direction == "maximize" else scaled


def losses(measurement: Measurement, objectives: Sequence[str]) -> tuple[float, ...]:
    """One loss per objective; a time that was measured beside a baseline counts as its ratio to it."""
    return tuple(loss(name, compared(measurement, name)) for name in objectives)


def compared(measurement: Measurement, name: str) -> float:
    """The value by which a metric ranks: its mean, or its ratio to the mean of what was timed :data:`BESIDE` it."""
    baseline = measurement.metrics.get(BESIDE.get(name, ""))
    value = measurement.value(name)
    return value / baseline.mean if baseline is not None and baseline.mean > 0 else value


@dataclass(frozen=True)
class Constraint:
    """A bound on the mean of a metric."""

    metric: str
    kind: Literal["max", "min"]
    limit: float

    def __str__(self) -> str:
        unit = METRICS[self.metric].unit
        return f"{self.metric} {'<=' if self.kind == 'max' else '>='} {self.limit:g} {unit}"

    @property
    def words(self) -> str:
        """For a sentence: ``KL divergence of at most 0.05 nats/token``."""
        return f"{label(self.metric)} of at {'most' if self.kind == 'max' else 'least'} {self.amount(self.limit)}"

    def amount(self, value: float) -> str:
        """A value of the metric with its unit: ``0.05 nats/token``."""
        mark = unit(self.metric)
        return f"{value:,.4g}{'' if mark in ('', '×') else ' '}{mark}"

    def violation(self, value: float) -> float:
        """How far ``value`` lies beyond the limit, as a share of the limit; 0 or less where the constraint holds."""
        excess = value - self.limit if self.kind == "max" else self.limit - value
        return excess / (abs(self.limit) or 1.0)


def constraints_of(request: TuningRequest) -> tuple[Constraint, ...]:
    """The constraints that the request states."""
    return (
        *(Constraint(name, "max", limit) for name, limit in request.maximums.items()),
        *(Constraint(name, "min", limit) for name, limit in request.minimums.items()),
    )


def violations(measurement: Measurement, constraints: Iterable[Constraint]) -> dict[str, float]:
    """Each constraint's violation by its text."""
    return {str(constraint): constraint.violation(measurement.value(constraint.metric)) for constraint in constraints}


def meets(measurement: Measurement, constraints: Iterable[Constraint]) -> bool:
    """Whether every constraint holds."""
    return all(violation <= 0 for violation in violations(measurement, constraints).values())


def unusable(measurement: Measurement, metrics: Iterable[str]) -> str | None:
    """Why the measurement cannot be compared by these metrics, or ``None``."""
    for name in metrics:
        if name not in measurement.metrics:
            return f"{name} was not measured"
        if not math.isfinite(measurement.value(name)):
            return f"{name} is {measurement.value(name)}"
    return None


def speedup(measurement: Measurement) -> tuple[float, bool] | None:
    """Time of PyTorch's fastest 16-bit attention over this one's, and whether it is a tie; ``None`` where one was not
    timed.

    Both were timed in turn on the same samples; a difference of their sums that is no larger than the spread of their
    runs is a tie, but never one of more than a tenth: noise makes nothing fast.
    """
    name, baseline = "attention_us", "attention_baseline_us"
    both = [sample for sample in measurement.samples if name in sample and baseline in sample]
    ours, theirs = (sum(sample[one] for sample in both) for one in (name, baseline))
    if not ours or not theirs:
        return None
    spread = sum(max(sample.get(f"{one}_spread", 0.0) for one in (name, baseline)) for sample in both)
    return theirs / ours, abs(ours - theirs) <= min(spread, WIDEST_TIE * theirs)
