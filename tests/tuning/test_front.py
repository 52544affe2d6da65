"""The front of trials: constraints first, timings within their spread are ties."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.tuning.objectives import Constraint, constraints_of, loss, losses, meets, unusable
from autokv.tuning.pareto import pareto_front
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import TrialRecord, TrialState

OBJECTIVES = ("kl_divergence", "kv_bytes_per_token", "attention_us")


def trial(
    number: int, kl: float, held: float, micros: Sequence[float], state: TrialState = "complete", spread: float = 0.0
) -> TrialRecord:
    config = CompressionConfig.parse(
        {"pipeline": {"eviction": {"method": "random", "keep_ratio": 0.5, "options": {"seed": number}}}}
    )
    samples = [
        {
            "id": f"p{index}",
            "kl_divergence": kl,
            "kv_bytes_per_token": held,
            "attention_us": value,
            "attention_us_spread": spread,
        }
        for index, value in enumerate(micros)
    ]
    measurement = Measurement.of_samples(config, samples) if state == "complete" else None
    return TrialRecord(number, state, {}, "random", config, measurement, None, 0.0)


def numbers(trials: Sequence[TrialRecord], constraints: Sequence[Constraint] = ()) -> list[int]:
    return [trial.number for trial in pareto_front(trials, OBJECTIVES, constraints)]


def test_front_of_plain_numbers() -> None:
    trials = [
        trial(0, 0.5, 100, [10]),
        trial(1, 0.1, 200, [10]),
        trial(2, 0.6, 110, [11]),
        trial(3, 0.1, 300, [5]),
        trial(4, 0.0, 0.0, [0.0], state="failed"),
    ]
    assert numbers(trials) == [0, 1, 3]
    assert numbers([]) == []


def test_a_faster_time_within_the_spread_is_no_advantage() -> None:
    steady = trial(0, 0.1, 100, [10.0, 40.0])
    assert numbers([steady, trial(1, 0.2, 100, [9.0, 39.0], spread=1.5)]) == [0]
    # Faster by more than the clock wavers, however much the prompts differ in length.
    assert numbers([steady, trial(1, 0.2, 100, [9.0, 39.0], spread=0.5)]) == [0, 1]
    # Nothing else differs: then even a little faster is better.
    assert numbers([steady, trial(1, 0.1, 100, [10.5, 39.0], spread=5.0)]) == [1]


def test_ties_never_empty_the_front() -> None:
    trials = [trial(number, 0.1 + number / 100, 100, [10.0 - number], spread=3.5) for number in range(4)]
    assert numbers(trials) == [0]
    assert numbers([*trials, trial(4, 0.5, 100, [1.0], spread=3.5)]) == [0, 4]


def test_feasible_trials_come_first() -> None:
    trials = [trial(0, 0.5, 50, [5]), trial(1, 0.04, 200, [10]), trial(2, 0.03, 300, [12])]
    cap = Constraint("kl_divergence", "max", 0.05)
    assert numbers(trials, [cap]) == [1, 2]
    assert numbers(trials[:1], [cap]) == [0], "a front of infeasible trials is better than none"


def test_losses_rise_as_metrics_get_worse() -> None:
    assert loss("kl_divergence", 0.01) < loss("kl_divergence", 0.02)
    assert loss("top1_agreement", 0.9) < loss("top1_agreement", 0.8)
    assert loss("compression_ratio", 4.0) < loss("compression_ratio", 2.0)
    # Ratios count, and a divergence that nobody can see counts for little.
    assert loss("attention_us", 20) - loss("attention_us", 10) == pytest.approx(
        loss("attention_us", 2000) - loss("attention_us", 1000)
    )
    assert loss("kl_divergence", 1e-6) - loss("kl_divergence", 0) < 0.05
    assert loss("kl_divergence", -1e-9) == loss("kl_divergence", 0)


def test_constraints_hold_at_their_limit() -> None:
    request = TuningRequest(model="m", maximums={"kl_divergence": 0.05}, minimums={"top1_agreement": 0.9})
    upper, lower = constraints_of(request)
    assert (upper.violation(0.05), lower.violation(0.9)) == (0, 0)
    assert upper.violation(0.1) == pytest.approx(1)
    assert lower.violation(0.45) == pytest.approx(0.5)
    assert Constraint("nll_delta", "max", 0.0).violation(0.3) == pytest.approx(0.3)
    assert str(upper) == "kl_divergence <= 0.05 nats/token"
    assert str(lower) == "top1_agreement >= 0.9 fraction"
    measurement = trial(0, 0.04, 10, [1]).measurement
    assert measurement is not None
    assert meets(measurement, [upper])
    assert losses(measurement, ["kv_bytes_per_token"]) == (loss("kv_bytes_per_token", 10),)


def test_what_cannot_be_compared_says_why() -> None:
    measurement = trial(0, float("nan"), 10, [1]).measurement
    assert measurement is not None
    assert unusable(measurement, ["kl_divergence"]) == "kl_divergence is nan"
    assert unusable(measurement, ["task_score"]) == "task_score was not measured"
    assert unusable(measurement, ["kv_bytes_per_token"]) is None
