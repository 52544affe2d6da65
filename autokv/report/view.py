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
from autokv.tuning.recommend import lost_tasks, required
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

BYTES = "kv_bytes_per_token"
TIME = "attention_us"
BASELINE_TIME = "attention_baseline_us"
FP8_TIME = "attention_fp8_us"
RATIO = "attention_ratio"
"""Attention time over the 16-bit cache's, timed beside it; a raw time says more of the moment than of the cache."""
FULL = "16-bit"
"""What the uncompressed cache is called in pictures, and the engine with it in comparisons."""
IDEAL = {"kl_divergence": 0.0, "top1_agreement": 1.0, "nll_delta": 0.0, "negative_sample_rate": 0.0, RATIO: 1.0}
"""What the 16-bit cache has by definition, being what the others are compared with."""
QUALITY = ("kl_divergence", "nll_delta", "top1_agreement", "task_score", "negative_sample_rate", "output_length_ratio")
DIGITS = re.compile(r"\d[\d.,]*(e[-+]?\d+)?")


def mean(measurement: Measurement | None, metric: str) -> float | None:
    """Mean of a metric, or ``None`` where it was not measured; :data:`RATIO` is one of two means."""
    if measurement is None:
        return None
    if metric == RATIO:
        ours, theirs = mean(measurement, TIME), mean(measurement, BASELINE_TIME)
        if not ours or not theirs:
            return None
        # No compression is what the others are compared with.
        return 1.0 if measurement.config.pipeline.is_identity else ours / theirs
    return measurement.metrics[metric].mean if metric in measurement.metrics else None


def shown(point: FrontPoint) -> Measurement:
    """The measurement that counts: on validation prompts where there is one."""
    return point.validation or point.calibration


def roles(result: TuningResult) -> dict[str, tuple[str, ...]]:
    """Digest to what it is called: ``recommended`` first, then ``fastest``, ``smallest``, ``knee``, ``safest``."""
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


def measured(trials: Iterable[TrialRecord]) -> list[Measurement]:
    """What the trials that ran gave."""
    return [trial.measurement for trial in trials if trial.measurement is not None]


def quality_metric(result: TuningResult) -> str:
    """The metric that stands for quality: the first such objective, else the first that was measured."""
    seen = {name for measurement in measured(result.trials) for name in measurement.metrics}
    return next((name for name in (*result.objectives, *QUALITY) if name in QUALITY and name in seen), QUALITY[0])


def baseline(result: TuningResult) -> dict[str, float]:
    """Figures of the 16-bit cache by metric, as far as they are known or hold by definition."""
    # Per sample, where the product is exact; a product of means over contexts of different lengths is not.
    sizes = [
        sample[BYTES] * sample["compression_ratio"]
        for measurement in measured(result.trials)
        for sample in measurement.samples
        if BYTES in sample and "compression_ratio" in sample
    ]
    found = {BYTES: statistics.median(sizes)} if sizes else {}
    judged = {} if result.decision is None else result.decision.baseline
    return {**found, **judged, **IDEAL}


def deciding(result: TuningResult) -> str:
    """The metric that decided on the recommendation; bytes in results that do not say."""
    return BYTES if result.decision is None else result.decision.objective


def columns(result: TuningResult) -> list[str]:
    """The metrics that a table of the front has: the one that decided and the objectives, times as ratios."""
    ran = measured(result.trials) + [shown(point) for point in result.front]
    wanted = (quality_metric(result), BYTES, deciding(result), *result.objectives)
    names = dict.fromkeys(RATIO if name == TIME else name for name in wanted)
    return [name for name in names if any(mean(one, name) is not None for one in ran)]


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
    confirmed = [point.validation for point in result.front if point.validation is not None]
    candidates = confirmed or measured(result.trials)
    return min(candidates, key=lambda found: sum(excess(one, found) for one in constraints), default=None)


def verdict(point: FrontPoint) -> str:
    """Whether it may be recommended: ``met``, ``over limit``, ``loses tasks``, or ``unconfirmed`` where none knows."""
    if point.validation is None:
        return "unconfirmed"
    if point.feasible:
        return "met"
    told = 0.0 if point.validation.samples else mean(point.validation, "negative_sample_rate")  # not over HTTP
    return "loses tasks" if told or lost_tasks(point.validation) else "over limit"


def spread(measurement: Measurement) -> float:
    """Spread of the timed runs as a share of their times."""
    pair = (TIME, BASELINE_TIME)
    both = [sample for sample in measurement.samples if all(name in sample for name in pair)]
    times = sum(max(sample[name] for name in pair) for sample in both)
    return sum(max(sample.get(f"{name}_spread", 0.0) for name in pair) for sample in both) / times if times else 0.0


def predicted(result: TuningResult, job: Mapping[str, Any]) -> str:
    """How the figures that decided are predicted, see :func:`hedge`; empty where they are measured."""
    serving = job.get("serving") or {}
    comparison = serving.get("comparison") or {}
    notes = [note for run in comparison.get("runs", ()) for note in run.get("notes") or ()]
    notes += () if result.decision is None else result.decision.notes
    notes += ["predicted"] if serving.get("predicted") else []
    return hedge(comparison.get("verdict", ""), notes)


def hedge(verdict: str, notes: Iterable[str]) -> str:
    """Whether figures are predicted: by what, if the verdict opens with it; empty where they are measured."""
    opening = verdict.partition(":")[0]
    if opening.startswith("predicted"):
        return opening
    return "predicted, unvalidated" if any("predicted" in note.lower() for note in notes) else ""


def batch(measurement: Measurement) -> int:
    """Sequences over which attention was timed; the fewest of its samples, where memory bounded some."""
    return min((sample.get("batch", 1) for sample in measurement.samples if TIME in sample), default=1)


def maximized(metric: str) -> bool:
    """Whether more of a metric is better."""
    return metric in METRICS and METRICS[metric].direction == "maximize"


def better(metric: str) -> str:
    """``lower is better`` or ``higher is better``."""
    return "higher is better" if maximized(metric) else "lower is better"


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
