"""What a result says, derived once for the page, the pictures and the terminal."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import METRICS
from autokv.tuning.objectives import Constraint
from autokv.tuning.recommend import required
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

BYTES = "kv_bytes_per_token"
TIME = "attention_us"
BASELINE_TIME = "attention_baseline_us"
FP8_TIME = "attention_fp8_us"
QUALITY = ("kl_divergence", "nll_delta", "top1_agreement", "task_score", "negative_sample_rate", "output_length_ratio")
DIGITS = re.compile(r"\d[\d.,]*(e[-+]?\d+)?")


def mean(measurement: Measurement | None, metric: str) -> float | None:
    """Mean of a metric, or ``None`` where it was not measured."""
    if measurement is None or metric not in measurement.metrics:
        return None
    return measurement.metrics[metric].mean


def shown(point: FrontPoint) -> Measurement:
    """The measurement that counts: on validation prompts where there is one."""
    return point.validation or point.calibration


def roles(result: TuningResult) -> dict[str, tuple[str, ...]]:
    """Digest to what it is called: ``recommended`` first, then ``fastest``, ``smallest``, ``knee``."""
    names: dict[str, list[str]] = {}
    if result.recommended:
        names[result.recommended] = ["recommended"]
    for name, digest in result.named.items():
        if name != "recommended":
            names.setdefault(digest, []).append(name)
    return {digest: tuple(called) for digest, called in names.items()}


def recommended(result: TuningResult) -> FrontPoint | None:
    """The front's recommended point."""
    return next((point for point in result.front if point.calibration.config.digest == result.recommended), None)


def by_size(front: Iterable[FrontPoint]) -> list[FrontPoint]:
    """The front, smallest first."""
    return sorted(front, key=lambda point: mean(shown(point), BYTES) or 0.0)


def measured(trials: Iterable[TrialRecord]) -> list[tuple[TrialRecord, Measurement]]:
    """The trials that ran, with what they gave."""
    return [(trial, trial.measurement) for trial in trials if trial.measurement is not None]


def quality_metric(result: TuningResult) -> str:
    """The metric that stands for quality: the first such objective, else the first that was measured."""
    seen = {name for _, measurement in measured(result.trials) for name in measurement.metrics}
    return next((name for name in (*result.objectives, *QUALITY) if name in QUALITY and name in seen), QUALITY[0])


def baseline(result: TuningResult) -> dict[str, float]:
    """Bytes and attention time of the 16-bit cache, as measured beside the candidates (medians over the trials)."""
    every = [measurement for _, measurement in measured(result.trials)]
    found: dict[str, float] = {}
    # Per sample, where the product is exact; a product of means over contexts of different lengths is not.
    sizes = [
        sample[BYTES] * sample["compression_ratio"]
        for measurement in every
        for sample in measurement.samples
        if BYTES in sample and "compression_ratio" in sample
    ]
    times = [time for measurement in every if (time := mean(measurement, BASELINE_TIME)) is not None]
    if sizes:
        found[BYTES] = statistics.median(sizes)
    if times:
        found[TIME] = statistics.median(times)
    return found


def limits(job: Mapping[str, Any]) -> tuple[Constraint, ...]:
    """The constraints by which a recommendation is judged: those of ``job["request"]`` and the default on quality."""
    request = job.get("request") or {}
    upper = [Constraint(metric, "max", bound) for metric, bound in (request.get("maximums") or {}).items()]
    lower = [Constraint(metric, "min", bound) for metric, bound in (request.get("minimums") or {}).items()]
    return required(upper + lower)


def bound(constraint: Constraint) -> str:
    """``at most 0.05``; the unit is the metric's."""
    return f"at {'most' if constraint.kind == 'max' else 'least'} {constraint.limit:,.6g}"


def excess(constraint: Constraint, measurement: Measurement) -> float:
    """How far a constraint is missed, as a share of its limit; 0 where it holds or was not measured."""
    value = mean(measurement, constraint.metric)
    return 0.0 if value is None else max(0.0, constraint.violation(value))


def closest_miss(result: TuningResult, constraints: Sequence[Constraint]) -> Measurement | None:
    """What comes nearest to the constraints: a confirmed front point if there is any, else a measured trial."""
    candidates = [point.validation for point in result.front if point.validation is not None]
    candidates = candidates or [found for _, found in measured(result.trials)]
    return min(candidates, key=lambda found: sum(excess(one, found) for one in constraints), default=None)


def verdict(point: FrontPoint) -> str:
    """Whether the constraints hold: ``met``, ``broken``, or ``unconfirmed`` without a validation."""
    if point.validation is None:
        return "unconfirmed"
    return "met" if point.feasible else "broken"


def speedup(measurement: Measurement) -> tuple[float, bool] | None:
    """Attention time of the 16-bit cache over this one's, and whether it is a tie.

    Both were timed in turn on the same samples; a difference of their sums that is no larger than the spread of their
    runs is a tie.
    """
    ours, theirs = mean(measurement, TIME), mean(measurement, BASELINE_TIME)
    if not ours or not theirs:
        return None
    both = [sample for sample in measurement.samples if TIME in sample and BASELINE_TIME in sample]
    difference = sum(sample[TIME] - sample[BASELINE_TIME] for sample in both)
    spread = sum(max(sample.get(f"{name}_spread", 0.0) for name in (TIME, BASELINE_TIME)) for sample in both)
    return theirs / ours, bool(both) and abs(difference) <= spread


def batch(measurement: Measurement) -> int:
    """Sequences over which attention was timed; the fewest of its samples, where memory bounded some."""
    return min((sample.get("batch", 1) for sample in measurement.samples if TIME in sample), default=1)


def better(metric: str) -> str:
    """``lower is better`` or ``higher is better``."""
    return "higher is better" if METRICS[metric].direction == "maximize" else "lower is better"


def failures(trials: Iterable[TrialRecord]) -> list[tuple[str, str, int]]:
    """State, reason and how often, most frequent first. Reasons that differ in numbers only are counted together."""
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for trial in trials:
        if trial.state != "complete":
            reason = trial.reason or "no reason recorded"
            key = (trial.state, DIGITS.sub("#", reason))
            counts[key] += 1
            example.setdefault(key, reason)
    return [(state, example[state, pattern], count) for (state, pattern), count in counts.most_common()]
