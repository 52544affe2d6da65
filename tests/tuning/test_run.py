"""A whole run: search, validation, recommendation, importance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError, InfeasibleError, Interrupted
from autokv.evaluation.measurement import Measurement
from autokv.search_spaces import SearchSpace, load_space
from autokv.tuning.importance import importance
from autokv.tuning.request import TuningRequest
from autokv.tuning.run import run_search

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
    assert set(result.named) == {"smallest", "fastest", "knee"}
    assert (result.stopped_by, len(result.trials), len(result.hypervolume)) == ("trials", 24, 24)
    assert all(one.calibration.config == one.validation.config for one in result.front if one.validation)


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
    assert (result.recommended, list(result.front), result.stopped_by) == (None, [], "exhausted")
    assert "no candidate could be measured (0 failed," in result.reason
    assert result.reason.endswith("needs more than there is")
    assert set(result.hypervolume) == {0.0}

    def failing(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        return [AutoKVError("broken") for _ in configs]

    result = run_search(ask(trials=3), space, evaluate=failing, validate=analytic)
    assert "(3 failed, 0 infeasible); the last one: broken" in result.reason
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
