"""One configuration out of a confirmed front, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import METRICS, SERVING_METRICS
from autokv.tuning.hypervolume import Box
from autokv.tuning.objectives import Constraint, loss, losses, meets, violations
from autokv.tuning.trial import FrontPoint

QUALITY = frozenset(
    {"kl_divergence", "top1_agreement", "nll_delta", "task_score", "negative_sample_rate", "output_length_ratio"}
)
TIE = 0.01
"""Relative difference of a serving metric that is none."""
DEFAULT_QUALITY = Constraint("kl_divergence", "max", 0.05)
"""What is asked of a recommendation where the user bounds no quality: a smallest cache without it would be useless."""


@dataclass(frozen=True)
class Recommendation:
    """Digests, and one line for a person."""

    recommended: str | None
    named: dict[str, str] = field(default_factory=dict)
    reason: str = ""


def required(constraints: Sequence[Constraint]) -> tuple[Constraint, ...]:
    """The user's constraints, with :data:`DEFAULT_QUALITY` where none of them is on quality."""
    if any(constraint.metric in QUALITY for constraint in constraints):
        return tuple(constraints)
    return (*constraints, DEFAULT_QUALITY)


def recommend(
    front: Sequence[FrontPoint], objectives: Sequence[str], constraints: Sequence[Constraint]
) -> Recommendation:
    """The best configuration that meets the :func:`required` constraints on the validation prompts.

    The best is the smallest, unless the first objective that is not on quality is on serving (goodput, say): then it is
    the best by that one, and the smallest of those within 1% of it, because simulations are no finer.

    Where some meet the constraints on the calibration prompts too, it is the best of those: what fails on one half of
    the prompts and passes on the other has been lucky. Beside it ``fastest``, ``smallest`` and ``knee`` are named among
    the points that meet the user's own constraints, or among all where none does. The knee lies farthest below the
    plane through the worst corners: the point that compresses with the least sum of losses, each scaled to 0 … 1.
    """
    confirmed = [(point.validation, point) for point in front if point.validation is not None]
    if not confirmed:
        return Recommendation(
            None, reason="no configuration was confirmed on validation prompts, so none is recommended"
        )
    measured = [measurement for measurement, _ in confirmed]
    named = _named([one for one in measured if meets(one, constraints)] or measured, objectives)
    wanted = required(constraints)
    asked = " and ".join(map(str, wanted)) + _said(constraints)
    passing = [(one, point) for one, point in confirmed if meets(one, wanted)]
    if not passing:
        closest = min(measured, key=lambda one: _shortfall(one, wanted))
        missed = ", ".join(
            f"{constraint.metric} {closest.value(constraint.metric):.4g}"
            for constraint in wanted
            if constraint.violation(closest.value(constraint.metric)) > 0
        )
        reason = (
            f"no configuration of the front meets {asked} on validation prompts, so none is recommended; "
            f"{closest.config.digest[:12]} comes closest with {missed}"
        )
        return Recommendation(None, named, reason)
    steady = [one for one, point in passing if meets(point.calibration, wanted)]
    pool, where = (steady, "calibration and validation") if steady else ([one for one, _ in passing], "validation")
    deciding = next(name for name in (*objectives, "kv_bytes_per_token") if name not in QUALITY)
    served = deciding in SERVING_METRICS
    best = min(_leading(pool, deciding) if served else pool, key=_bytes)
    word = f"best {deciding} ({best.value(deciding):.4g} {METRICS[deciding].unit})" if served else "smallest"
    many = f"{word} of {len(pool)} configurations" if len(pool) > 1 else "the one configuration"
    verb = "meet" if len(pool) > 1 else "meets"
    reason = f"{many} that {verb} {asked} on {where} prompts: {_bytes(best):,.0f} bytes per token"
    return Recommendation(best.config.digest, named, reason)


def _leading(pool: Sequence[Measurement], metric: str) -> list[Measurement]:
    """The best by ``metric`` and all that tie with it."""
    best = min(loss(metric, one.value(metric)) for one in pool)
    return [one for one in pool if loss(metric, one.value(metric)) <= best + math.log1p(TIE)]


def _named(measured: Sequence[Measurement], objectives: Sequence[str]) -> dict[str, str]:
    named = {"smallest": min(measured, key=_bytes)}
    timed = [one for one in measured if "attention_us" in one.metrics]
    if timed:
        named["fastest"] = min(timed, key=lambda one: one.value("attention_us"))
    bent = [one for one in measured if not one.config.pipeline.is_identity] or measured
    points = np.array([losses(one, objectives) for one in bent])
    named["knee"] = bent[int(Box.around(points).normalise(points).sum(axis=1).argmin())]
    return {name: one.config.digest for name, one in named.items()}


def _said(constraints: Sequence[Constraint]) -> str:
    if DEFAULT_QUALITY in required(constraints) and DEFAULT_QUALITY not in constraints:
        return " (the default, since no constraint on quality was given)"
    return ""


def _shortfall(measurement: Measurement, constraints: Sequence[Constraint]) -> float:
    return sum(max(0.0, violation) for violation in violations(measurement, constraints).values())


def _bytes(measurement: Measurement) -> float:
    return measurement.value("kv_bytes_per_token")
