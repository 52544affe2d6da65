"""One configuration out of a front, and what is said where there is none."""

from __future__ import annotations

from typing import Any

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement, Statistics
from autokv.evaluation.metrics import METRICS
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
    assert chosen.reason == (
        "the smallest of 2 configurations with KL divergence of at most 0.02 nats/token on calibration and validation "
        "prompts: 300 bytes per token"
    )
    assert chosen.named["smallest"] == digest(FRONT, 1)
    assert chosen.named["fastest"] == digest(FRONT, 0)


def test_without_constraints_a_default_is_said_aloud() -> None:
    chosen = recommend(FRONT, DEFAULT_OBJECTIVES, [])
    assert chosen.recommended == digest(FRONT, 3)
    words = "KL divergence of at most 0.05 nats/token (the default, since no constraint on quality was given)"
    assert words in chosen.reason
    assert chosen.named["smallest"] == chosen.named["fastest"] == digest(FRONT, 2), "of the whole front"


def test_a_cap_on_bytes_alone_does_not_recommend_nonsense() -> None:
    chosen = recommend(FRONT, DEFAULT_OBJECTIVES, [Constraint("kv_bytes_per_token", "max", 500)])
    assert chosen.recommended == digest(FRONT, 3)
    assert "KV cache of at most 500 B/token and KL divergence of at most 0.05" in chosen.reason


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
    assert chosen.reason.startswith("the only configuration of the front with KL divergence of at most 0.05")
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
    assert f"{digest(FRONT, 0)[:12]} comes closest with KL divergence 0.001 nats/token" in chosen.reason
    assert chosen.named["smallest"] == digest(FRONT, 2), "named among all"


def test_the_closest_miss_weighs_every_constraint() -> None:
    front = [point(0, 0.011, 1000, 50), point(1, 0.02, 101, 60)]
    limits = [Constraint("kl_divergence", "max", 0.01), Constraint("kv_bytes_per_token", "max", 100)]
    reason = recommend(front, DEFAULT_OBJECTIVES, limits).reason
    assert f"{digest(front, 1)[:12]} comes closest with KL divergence 0.02 nats/token, KV cache 101 B/token" in reason


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


SIZES = ("kl_divergence", "kv_bytes_per_token")


def served(number: int, rate: float, held: float, kl: float = 0.01, **more: float) -> FrontPoint:
    base = point(number, kl, held, 50)
    sample = {"id": "p", "kl_divergence": kl, "kv_bytes_per_token": held, "sustained_requests_per_s": rate, **more}
    return confirmed(base.calibration.config, sample, number)


def confirmed(config: CompressionConfig, sample: dict[str, Any], number: int, *others: Any) -> FrontPoint:  # noqa: ANN401
    statistics = {
        name: Statistics.of([value], maximize=False)
        for name, value in sample.items()
        if name in METRICS and isinstance(value, float | int)
    }
    measurement = Measurement(config, statistics, [sample, *others])
    return FrontPoint(number, "tpe", measurement, measurement, feasible=True)


def plain(**sample: float) -> FrontPoint:
    return confirmed(CompressionConfig(), {"id": "p", "kl_divergence": 1e-7, "kv_bytes_per_token": 1000, **sample}, 99)


def test_with_a_trace_what_is_sustained_decides() -> None:
    front = [served(0, 5.0, 900), served(1, 4.0, 400), served(2, 6.0, 100, kl=0.2), plain(sustained_requests_per_s=3.0)]
    chosen = recommend(front, SIZES, [])
    assert (chosen.recommended, chosen.objective) == (digest(front, 0), "sustained_requests_per_s")
    assert chosen.reason.startswith(
        "the highest sustained requests/s within the SLO (5 requests/s) of 3 configurations"
    )
    by_size = recommend(front, SIZES, [], "kv_bytes_per_token")
    assert (by_size.recommended, by_size.objective) == (digest(front, 1), "kv_bytes_per_token")


def test_ties_go_to_the_better_quality_then_to_the_simpler_pipeline_then_to_fewer_bytes() -> None:
    front = [served(0, 5.0, 300, kl=0.04), served(1, 4.9, 400, kl=0.01), served(2, 4.8, 200, kl=0.001)]
    assert recommend(front, SIZES, []).recommended == digest(front, 1), "4.8 is no tie"
    stages = {"eviction": {"method": "knorm", "keep_ratio": 0.5}, "quantization": {"method": "fp8"}}
    two = served(3, 4.95, 100, kl=0.01)
    two = confirmed(CompressionConfig.parse({"pipeline": stages}), dict(two.calibration.samples[0]), 3)
    assert recommend([*front, two], SIZES, []).recommended == digest(front, 1)
    smaller = served(4, 4.95, 350, kl=0.0101)
    assert recommend([*front, two, smaller], SIZES, []).recommended == digest([smaller], 4)


def test_no_compression_wins_where_nothing_beats_it() -> None:
    front = [served(0, 3.05, 300), served(1, 2.0, 200), plain(sustained_requests_per_s=3.0)]
    assert recommend(front, SIZES, []).recommended == CompressionConfig().digest
    front = [served(0, 3.2, 300), served(1, 2.0, 200), plain(sustained_requests_per_s=3.0)]
    assert recommend(front, SIZES, []).recommended == digest(front, 0)
    broken = [Constraint("kv_bytes_per_token", "max", 250)]
    assert recommend(front, SIZES, broken).recommended == digest(front, 1)


def timed(number: int, held: float, ratio: float, spread: float = 1.0, kl: float = 0.01) -> FrontPoint:
    base = point(number, kl, held, 50)
    times = {"attention_us": 100.0 * ratio, "attention_us_spread": spread, "attention_baseline_us": 100.0}
    sample = {"id": "p", "kl_divergence": kl, "kv_bytes_per_token": held, **times}
    return confirmed(base.calibration.config, sample, number)


def test_without_a_trace_the_smallest_that_is_not_slower() -> None:
    front = [timed(0, 500, 0.9), timed(1, 300, 1.2), timed(2, 400, 1.08, spread=15.0), plain(attention_us=100.0)]
    chosen = recommend(front, DEFAULT_OBJECTIVES, [])
    assert chosen.recommended == digest(front, 2), "within its spread"
    assert chosen.reason.startswith("the smallest of 3 configurations with KL divergence of at most 0.05")
    assert chosen.reason.endswith("prompts and attention no slower than with 16 bits: 400 bytes per token")
    assert not chosen.slower


def test_where_all_are_slower_that_is_said_and_bytes_decide() -> None:
    front = [timed(0, 500, 1.5), timed(1, 300, 1.2), plain(attention_us=100.0)]
    chosen = recommend(front, DEFAULT_OBJECTIVES, [])
    assert (chosen.recommended, chosen.slower) == (digest(front, 1), True)
    assert recommend(front[2:], DEFAULT_OBJECTIVES, []).recommended == CompressionConfig().digest


def with_tasks(number: int, held: float, *lost: float) -> FrontPoint:
    base = point(number, 0.01, held, 50)
    tasks = [
        {"id": f"needle-{place}", "task": "needle", "kind": "needle", "negative_sample_rate": one}
        for place, one in enumerate(lost)
    ]
    sample = {"id": "p", "kl_divergence": 0.01, "kv_bytes_per_token": held, "negative_sample_rate": sum(lost)}
    return confirmed(base.calibration.config, sample, number, *tasks)


def test_what_loses_tasks_is_not_recommended_unless_the_user_says_how_many_may_be_lost() -> None:
    front = [with_tasks(0, 300, 0.0, 1.0), with_tasks(1, 500, 0.0, 0.0)]
    assert recommend(front, SIZES, []).recommended == digest(front, 1)
    allowed = [Constraint("kl_divergence", "max", 0.05), Constraint("negative_sample_rate", "max", 1.0)]
    assert recommend(front, SIZES, allowed).recommended == digest(front, 0)
    none = recommend(front[:1], SIZES, [])
    assert none.recommended is None
    assert none.reason.endswith("loses the fewest: needle-1")


def test_names_beside_the_recommendation() -> None:
    front = [
        served(0, 1.0, 900, kl=0.0001, compression_ratio=1.1, tpot_ms=30.0, attention_us=1.0),
        served(1, 1.0, 500, kl=0.002, compression_ratio=1.998, tpot_ms=10.0, attention_us=9.0),
        served(2, 1.0, 250, kl=0.04, compression_ratio=4.0, tpot_ms=20.0, attention_us=5.0),
    ]
    named = recommend(front, SIZES, []).named
    assert {name: named[name] for name in ("fastest", "smallest", "safest")} == {
        "fastest": digest(front, 1),
        "smallest": digest(front, 2),
        "safest": digest(front, 1),
    }
    assert "safest" not in recommend(front[:1], SIZES, []).named


def test_the_16_bit_cache_is_as_fast_as_the_reference_that_it_is_shown_with() -> None:
    """Its own row is timed with AutoKV's attention, which may be faster than PyTorch's; tables show it as 1x."""
    front = [timed(0, 300, 0.9, spread=0.0), plain(attention_us=50.0, attention_baseline_us=100.0)]
    assert recommend(front, DEFAULT_OBJECTIVES, []).named["fastest"] == digest(front, 0)


def test_noise_makes_nothing_fast() -> None:
    """A spread wider than the baseline itself does not excuse a configuration that takes half as long again."""
    front = [timed(0, 300, 1.5, spread=500.0), timed(1, 400, 1.05, spread=20.0), plain(attention_us=100.0)]
    assert recommend(front, DEFAULT_OBJECTIVES, []).recommended == digest(front, 1)


def test_what_saves_no_bytes_does_not_beat_no_compression() -> None:
    front = [timed(0, 999, 0.9), plain(attention_us=100.0)]
    assert recommend(front, DEFAULT_OBJECTIVES, []).recommended == CompressionConfig().digest


def test_where_nothing_keeps_the_slo_goodput_then_throughput_decide() -> None:
    rates = {"sustained_requests_per_s": 0.0, "goodput_requests_per_s": 0.0}
    front = [
        served(0, 0.0, 300, goodput_requests_per_s=0.0, throughput_tokens_per_s=20.0),
        plain(**rates, throughput_tokens_per_s=10.0),
    ]
    chosen = recommend(front, SIZES, [])
    assert (chosen.recommended, chosen.objective) == (digest(front, 0), "throughput_tokens_per_s")


def test_a_utility_that_was_not_measured_recommends_nothing() -> None:
    chosen = recommend(FRONT, DEFAULT_OBJECTIVES, [], "attention_fp8_us")
    assert chosen.recommended is None
    assert chosen.reason.startswith("fp8 attention per layer was to decide, but no configuration has a value")


def test_a_tie_that_is_ahead_is_told() -> None:
    front = [served(0, 5.0, 300, kl=0.04), served(1, 4.9, 400, kl=0.01)]
    assert "(4.9 requests/s; another reaches 5, which is within noise (3%)" in recommend(front, SIZES, []).reason


def test_attention_decides_by_its_ratio_to_what_was_timed_beside_it() -> None:
    front = [timed(0, 300, 0.9, spread=0.0), plain(attention_us=50.0, attention_baseline_us=100.0)]
    chosen = recommend(front, DEFAULT_OBJECTIVES, [], utility="attention_us")
    assert chosen.recommended == digest(front, 0) == chosen.named["fastest"]
