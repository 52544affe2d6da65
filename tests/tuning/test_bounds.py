"""Bounds that no configuration can meet are refused when they are asked for, and only then."""

from __future__ import annotations

import math
from typing import Any

import pytest

from autokv.errors import RequestError
from autokv.evaluation.metrics import CONFIRMED_METRICS, METRICS, SERVING_METRICS
from autokv.tuning.request import TuningRequest

BOUNDED = [name for name in METRICS if name not in CONFIRMED_METRICS]


def asked(metric: str, **limits: Any) -> TuningRequest:  # noqa: ANN401
    about = {"workload": "trace.csv"} if metric in SERVING_METRICS else {}
    return TuningRequest.parse({"model": "m", "tasks": True, **about, **limits})


@pytest.mark.parametrize("metric", [name for name in BOUNDED if name != "nll_delta"])
def test_nothing_is_below_what_its_unit_allows(metric: str) -> None:
    with pytest.raises(RequestError, match=rf"maximums.{metric}: {metric} cannot be at most -1; give a bound within"):
        asked(metric, max={metric: -1.0})
    assert asked(metric, max={metric: 1.0}).maximums == {metric: 1.0}
    assert asked(metric, min={metric: -1.0}).minimums == {metric: -1.0}, "that holds always"


@pytest.mark.parametrize("metric", BOUNDED)
def test_fractions_end_at_1_and_bytes_and_times_begin_above_0(metric: str) -> None:
    unit = METRICS[metric].unit
    for limits, impossible in (
        ({"max": {metric: 0.0}}, unit in {"bytes", "us", "ms"}),
        ({"min": {metric: 1.25}}, unit == "fraction"),
    ):
        if impossible:
            with pytest.raises(RequestError, match=f"{metric} cannot be at (most 0|least 1.25)"):
                asked(metric, **limits)
        else:
            asked(metric, **limits)


def test_a_change_of_likelihood_may_be_anything() -> None:
    assert asked("nll_delta", max={"nll_delta": -3.0}).maximums == {"nll_delta": -3.0}
    assert METRICS["nll_delta"].range == "any number"


def test_a_minimum_above_the_maximum_is_refused() -> None:
    limits = {"min": {"compression_ratio": 4.0}, "max": {"compression_ratio": 3.0}}
    with pytest.raises(RequestError, match=r"minimums.compression_ratio: .* at least 4 and at most 3; give a minimum"):
        asked("compression_ratio", **limits)
    limits["min"]["compression_ratio"] = 3.0
    asked("compression_ratio", **limits)


def test_no_limit_at_all_is_no_bound() -> None:
    for name, metric in METRICS.items():
        assert not metric.reaches(math.nan, "max"), name
        assert not metric.reaches(math.nan, "min"), name


def test_what_was_stored_before_still_loads() -> None:
    stored = {"model": "m", "maximums": {"kl_divergence": -1.0}}
    assert TuningRequest.model_validate(stored).maximums == {"kl_divergence": -1.0}
