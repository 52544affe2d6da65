"""One configuration out of a front, and what is said where there is none."""

from __future__ import annotations

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.tuning.objectives import Constraint
from autokv.tuning.recommend import DEFAULT_QUALITY, QUALITY, recommend, required
from autokv.tuning.request import DEFAULT_OBJECTIVES
from autokv.tuning.trial import FrontPoint


def point(
    number: int, kl: float, held: float, micros: float, *, validated: bool = True, worse: float = 1.0
) -> FrontPoint:
    config = CompressionConfig.parse(
        {"pipeline": {"eviction": {"method": "random", "keep_ratio": 0.5, "options": {"seed": number}}}}
    )

    def measurement(divergence: float) -> Measurement:
        sample = {"id": "p", "kl_divergence": divergence, "kv_bytes_per_token": held, "attention_us": micros}
        return Measurement.of_samples(config, [sample])

    validation = measurement(kl * worse) if validated else None
    return FrontPoint(number, "tpe", measurement(kl), validation, feasible=False)


def digest(front: list[FrontPoint], number: int) -> str:
    return next(one.calibration.config.digest for one in front if one.trial == number)


FRONT = [point(0, 0.001, 1000, 50), point(1, 0.01, 300, 60), point(2, 0.3, 200, 20), point(3, 0.04, 250, 70)]


def test_the_smallest_that_meets_the_constraints() -> None:
    chosen = recommend(FRONT, DEFAULT_OBJECTIVES, [Constraint("kl_divergence", "max", 0.02)])
    assert chosen.recommended == digest(FRONT, 1)
    assert "smallest of 2 configurations that meet kl_divergence <= 0.02 nats/token on calibration and" in chosen.reason
    assert chosen.named["smallest"] == digest(FRONT, 1)
    assert chosen.named["fastest"] == digest(FRONT, 0)


def test_without_constraints_a_default_is_said_aloud() -> None:
    chosen = recommend(FRONT, DEFAULT_OBJECTIVES, [])
    assert chosen.recommended == digest(FRONT, 3)
    assert "kl_divergence <= 0.05 nats/token (the default, since no constraint on quality was given)" in chosen.reason
    assert chosen.named["smallest"] == chosen.named["fastest"] == digest(FRONT, 2), "of the whole front"


def test_a_cap_on_bytes_alone_does_not_recommend_nonsense() -> None:
    chosen = recommend(FRONT, DEFAULT_OBJECTIVES, [Constraint("kv_bytes_per_token", "max", 500)])
    assert chosen.recommended == digest(FRONT, 3)
    assert "kv_bytes_per_token <= 500 bytes and kl_divergence <= 0.05" in chosen.reason


def test_a_limit_on_any_quality_replaces_the_default() -> None:
    for metric in QUALITY:
        assert required([Constraint(metric, "min", 0.5)]) == (Constraint(metric, "min", 0.5),)
    loose = recommend(FRONT, DEFAULT_OBJECTIVES, [Constraint("kl_divergence", "max", 1.0)])
    assert loose.recommended == digest(FRONT, 2)
    assert "default" not in loose.reason
    assert "default" not in recommend(FRONT, DEFAULT_OBJECTIVES, [DEFAULT_QUALITY]).reason


def test_validation_decides_and_not_calibration() -> None:
    front = [point(0, 0.001, 1000, 50), point(1, 0.04, 250, 60, worse=2.0)]
    assert recommend(front, DEFAULT_OBJECTIVES, []).recommended == digest(front, 0)


def test_what_failed_on_calibration_is_only_a_last_resort() -> None:
    lucky = point(0, 0.09, 100, 50, worse=0.3)
    front = [lucky, point(1, 0.04, 250, 60)]
    chosen = recommend(front, DEFAULT_OBJECTIVES, [])
    assert chosen.recommended == digest(front, 1)
    assert chosen.reason.startswith("the one configuration that meets kl_divergence <= 0.05")
    alone = recommend([lucky], DEFAULT_OBJECTIVES, [])
    assert alone.recommended == digest(front, 0)
    assert "on validation prompts" in alone.reason


def test_the_uncompressed_cache_is_no_knee() -> None:
    config = CompressionConfig()
    sample = {"id": "p", "kl_divergence": 0.0, "kv_bytes_per_token": 1000.0, "attention_us": 1.0}
    measured = Measurement.of_samples(config, [sample])
    plain = FrontPoint(9, "tpe", measured, measured, feasible=True)
    front = [plain, point(0, 0.001, 900, 500), point(1, 0.04, 800, 600)]
    chosen = recommend(front, DEFAULT_OBJECTIVES, [])
    assert chosen.named["knee"] == digest(front, 0)
    assert chosen.named["fastest"] == config.digest


def test_nothing_meets_the_constraints() -> None:
    chosen = recommend(FRONT, DEFAULT_OBJECTIVES, [Constraint("kl_divergence", "max", 0.0005)])
    assert chosen.recommended is None
    assert "none is recommended" in chosen.reason
    assert f"{digest(FRONT, 0)[:12]} comes closest with kl_divergence 0.001" in chosen.reason
    assert chosen.named["smallest"] == digest(FRONT, 2), "named among all"


def test_the_closest_miss_weighs_every_constraint() -> None:
    front = [point(0, 0.011, 1000, 50), point(1, 0.02, 101, 60)]
    limits = [Constraint("kl_divergence", "max", 0.01), Constraint("kv_bytes_per_token", "max", 100)]
    reason = recommend(front, DEFAULT_OBJECTIVES, limits).reason
    assert f"{digest(front, 1)[:12]} comes closest with kl_divergence 0.02, kv_bytes_per_token 101" in reason


def test_nothing_was_confirmed() -> None:
    for front in ([], [point(0, 0.001, 1000, 50, validated=False)]):
        chosen = recommend(front, DEFAULT_OBJECTIVES, [])
        assert (chosen.recommended, chosen.named) == (None, {})
        assert "no configuration was confirmed" in chosen.reason
    mixed = [point(0, 0.001, 1000, 50), point(1, 0.001, 100, 50, validated=False)]
    assert recommend(mixed, DEFAULT_OBJECTIVES, []).recommended == digest(mixed, 0)


def test_the_knee_is_where_both_ends_are_near() -> None:
    front = [point(0, 0.0001, 1000, 10), point(1, 0.001, 300, 10), point(2, 1.0, 250, 10)]
    assert recommend(front, DEFAULT_OBJECTIVES, []).named["knee"] == digest(front, 1)
    assert recommend(front[:1], DEFAULT_OBJECTIVES, []).named["knee"] == digest(front, 0)


def served(number: int, goodput: float, held: float) -> FrontPoint:
    base = point(number, 0.01, held, 50)
    sample = {"id": "p", "kl_divergence": 0.01, "kv_bytes_per_token": held, "goodput_requests_per_s": goodput}
    measurement = Measurement.of_samples(base.calibration.config, [sample])
    return FrontPoint(number, "tpe", measurement, measurement, feasible=True)


def test_an_objective_on_serving_decides_and_bytes_break_its_ties() -> None:
    front = [served(0, 5.0, 900), served(1, 4.97, 400), served(2, 3.0, 100)]
    objectives = ("kl_divergence", "goodput_requests_per_s", "kv_bytes_per_token")
    chosen = recommend(front, objectives, [])
    assert chosen.recommended == digest(front, 1)
    assert "best goodput_requests_per_s (4.97 requests/s) of 3 configurations" in chosen.reason
    by_size = recommend(front, ("kl_divergence", "kv_bytes_per_token", "goodput_requests_per_s"), [])
    assert by_size.recommended == digest(front, 2)
