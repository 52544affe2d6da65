"""A whole run: search, validation, recommendation, importance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError, InfeasibleError, Interrupted
from autokv.evaluation.measurement import Measurement, Statistics
from autokv.search_spaces import SearchSpace, load_space
from autokv.tuning.request import TuningRequest
from autokv.tuning.run import run_search
from autokv.tuning.sampling import importance

Evaluate = Callable[[Sequence[CompressionConfig]], list[Measurement | AutoKVError]]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("balanced").fitted(64)


def ask(**changes: Any) -> TuningRequest:  # noqa: ANN401
    return TuningRequest(**({"model": "m", "trials": 24} | changes))


def test_the_front_is_confirmed_and_the_smallest_recommended(space: SearchSpace, analytic: Evaluate) -> None:
    asked: list[int] = []

    def validate(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        asked.append(len(configs))
        return analytic(configs)

    result = run_search(ask(), space, evaluate=analytic, validate=validate)
    assert sum(asked) == len(result.front)
    assert max(asked) <= 4
    passing = [one.validation for one in result.front if one.feasible and one.validation is not None]
    assert passing
    smallest = min(passing, key=lambda one: one.value("kv_bytes_per_token"))
    assert result.recommended == smallest.config.digest
    assert set(result.named) == {"smallest", "fastest", "knee", "safest"}
    assert result.decision is not None
    assert result.decision.objective == "kv_bytes_per_token"
    (plain,) = (one.validation for one in result.front if one.source == "baseline: 16-bit")
    assert plain is not None
    assert result.decision.baseline == {name: one.mean for name, one in plain.metrics.items()}
    ratio = plain.value("kv_bytes_per_token") / smallest.value("kv_bytes_per_token")
    assert result.decision.headline.startswith(f"{ratio:.2g}× smaller KV cache, KL ")
    assert (result.stopped_by, len(result.trials), len(result.hypervolume)) == ("trials", 24, 24)
    assert all(one.calibration.config == one.validation.config for one in result.front if one.validation)


def test_no_compression_is_the_first_trial_and_is_confirmed(analytic: Evaluate) -> None:
    """In a space that has no such point as well, and beside a front that beats it; a resumed run does not repeat it."""
    space = load_space("edge").fitted(64)
    limits = {"kv_bytes_per_token": 900.0}
    stored: list[Any] = []
    result = run_search(
        ask(trials=8, maximums=limits), space, evaluate=analytic, validate=analytic, on_trial=stored.append
    )
    first = ["baseline: 16-bit", "baseline: fp8", "literature: KIVI-4"]
    assert [one.source for one in stored[:3]] == first
    assert [one.trial for one in result.front if one.source == "baseline: 16-bit"] == [0]
    assert result.recommended != CompressionConfig().digest
    resumed = run_search(ask(trials=12, maximums=limits), space, evaluate=analytic, validate=analytic, existing=stored)
    assert [one.source for one in resumed.trials].count("baseline: 16-bit") == 1
    assert len(resumed.trials) == 12


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"objectives": ["kl_divergence"]}, "No compressed configuration is on the front of these objectives"),
        (
            {"maximums": {"kl_divergence": 1.2e-7}},
            "No compressed configuration that meets the constraints is on the front of these objectives",
        ),
        ({"utility": "kl_divergence"}, "No compressed configuration beats 16 bits: they have the lowest KL divergence"),
    ],
)
def test_sixteen_bits_are_recommended_for_the_reason_that_there_is(
    asked: dict[str, Any], said: str, space: SearchSpace, analytic: Evaluate
) -> None:
    """Smaller ones as fast exist; nothing says that they do not."""
    result = run_search(ask(trials=8, **asked), space, evaluate=analytic, validate=analytic)
    assert result.recommended == CompressionConfig().digest
    assert result.decision is not None
    assert result.decision.headline.startswith(said)


def test_what_is_confirmed_side_by_side_decides(space: SearchSpace, analytic: Evaluate) -> None:
    """The utility comes from the whole validated front at once; a point that failed validation is left out of it."""
    seen: list[int] = []

    def validate(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        return [
            AutoKVError("broke") if not one.pipeline.is_identity and not seen else analytic([one])[0] for one in configs
        ]

    def confirm(measured: Sequence[Measurement]) -> list[Measurement]:
        seen.append(len(measured))
        return [
            replace(one, metrics={**one.metrics, "sustained_requests_per_s": Statistics(9.0 - place, 0, 9.0, 9.0, 1)})
            for place, one in enumerate(sorted(measured, key=lambda one: one.config.digest))
        ]

    result = run_search(ask(trials=6), space, evaluate=analytic, validate=validate, confirm=confirm)
    assert seen == [1]
    assert result.recommended == CompressionConfig().digest
    assert result.decision is not None
    assert result.decision.objective == "sustained_requests_per_s"


def test_what_collapses_on_validation_is_not_recommended(space: SearchSpace, analytic: Evaluate) -> None:
    kept = run_search(ask(), space, evaluate=analytic, validate=analytic).recommended

    def validate(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        return [AutoKVError("collapsed") if one.digest == kept else analytic([one])[0] for one in configs]

    result = run_search(ask(), space, evaluate=analytic, validate=validate)
    assert result.recommended not in (None, kept)
    failed = next(one for one in result.front if one.calibration.config.digest == kept)
    assert (failed.validation, failed.feasible) == (None, False)


def test_an_interrupted_search_confirms_nothing(space: SearchSpace, analytic: Evaluate) -> None:
    def validate(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        raise AssertionError("validated after an interrupt")

    stored: list[Any] = []
    result = run_search(
        ask(), space, evaluate=analytic, validate=validate, on_trial=stored.append, should_stop=lambda: len(stored) > 9
    )
    assert (result.stopped_by, result.recommended, len(result.trials)) == ("interrupt", None, 12)
    assert result.front
    assert all(one.validation is None and not one.feasible for one in result.front)


def test_validation_can_be_interrupted(space: SearchSpace, analytic: Evaluate) -> None:
    def validate(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        run_search(ask(trials=4), space, evaluate=analytic, validate=validate)


def test_a_run_without_one_measurement_says_why(space: SearchSpace, analytic: Evaluate) -> None:
    def fits(config: CompressionConfig) -> None:
        raise InfeasibleError("needs more than there is")

    result = run_search(ask(), space, evaluate=analytic, validate=analytic, fits=fits)
    assert result.stopped_by == "exhausted"
    assert {one.source for one in result.front} <= {"baseline: 16-bit", "baseline: fp8"}
    assert result.decision is not None
    assert {one.source for one in result.trials if one.state == "complete"} == {"baseline: 16-bit", "baseline: fp8"}

    def failing(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        return [AutoKVError("broken") for _ in configs]

    result = run_search(ask(trials=3), space, evaluate=failing, validate=analytic)
    assert "(3 failed, 0 infeasible); the last one: broken" in result.reason
    assert (result.recommended, result.decision) == (None, None)
    assert run_search(ask(), space, evaluate=analytic, validate=analytic, should_stop=lambda: True).front == []


def test_importance_finds_what_matters(space: SearchSpace, analytic: Evaluate) -> None:
    result = run_search(ask(trials=48, sampler="random"), space, evaluate=analytic, validate=analytic)
    assert set(result.importance) == set(result.objectives)
    for shares in result.importance.values():
        assert set(shares) <= set(space.parameters)
        assert math.isclose(sum(shares.values()), 1.0, rel_tol=1e-6)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
    leading = list(result.importance["kv_bytes_per_token"])[:5]
    assert "quantization.method" in leading
    harmless = result.importance["kv_bytes_per_token"].get("eviction.layer_budget", 0)
    assert harmless < result.importance["kv_bytes_per_token"]["quantization.method"]


def test_importance_of_too_little_is_nothing(space: SearchSpace, analytic: Evaluate) -> None:
    few = run_search(ask(trials=5), space, evaluate=analytic, validate=analytic)
    assert few.importance == {name: {} for name in few.objectives}
    assert importance(space, [], ("kl_divergence",)) == {"kl_divergence": {}}
    elsewhere = load_space("eviction-only").fitted(64)
    assert importance(elsewhere, few.trials, ("kl_divergence",)) == {"kl_divergence": {}}
