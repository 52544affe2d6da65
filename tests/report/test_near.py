"""Rows that differ by no more than noise."""

from __future__ import annotations

import dataclasses

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.front_tables import distinct, same
from autokv.tuning.trial import FrontPoint, TuningResult


def measured(keep: float, losses: list[float], size: float = 6000.0, time: float = 50.0) -> Measurement:
    """A configuration with a sample per loss; the 16-bit cache takes 100 µs and 23,040 bytes."""
    config = CompressionConfig.parse({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": keep}}})
    rows = [
        {
            "id": f"{number}",
            "kl_divergence": loss,
            "kv_bytes_per_token": size,
            "compression_ratio": 23040 / size,
            "attention_us": time,
            "attention_baseline_us": 100.0,
        }
        for number, loss in enumerate(losses)
    ]
    return Measurement.of_samples(config, rows)


def result_of(*measurements: Measurement, recommended: int = 0) -> TuningResult:
    front = [FrontPoint(number, "tpe", one, one, True) for number, one in enumerate(measurements)]
    objectives = ("kl_divergence", "kv_bytes_per_token", "attention_us")
    return TuningResult(objectives, [], front, measurements[recommended].config.digest)


LOSSES = [0.010, 0.020, 0.030, 0.040]


def test_a_difference_within_the_error_of_its_prompts_is_none() -> None:
    base = measured(0.5, LOSSES)
    noisy = measured(0.51, [0.012, 0.019, 0.033, 0.038])
    higher = measured(0.52, [loss + 0.004 for loss in LOSSES])
    assert same("kl_divergence", base, noisy)
    assert not same("kl_divergence", base, higher)  # by the same amount on every prompt
    assert same("kl_divergence", base, measured(0.53, LOSSES))


def test_sizes_and_times_have_their_own_noise() -> None:
    base = measured(0.5, LOSSES)
    assert same("kv_bytes_per_token", base, measured(0.51, LOSSES, size=6200))
    assert not same("kv_bytes_per_token", base, measured(0.51, LOSSES, size=7000))
    assert same(view.RATIO, base, measured(0.51, LOSSES, time=54))
    assert not same(view.RATIO, base, measured(0.51, LOSSES, time=70))
    rows = [{**row, "attention_us": 70.0, "attention_us_spread": 45.0} for row in base.samples]
    assert same(view.RATIO, base, Measurement.of_samples(base.config, rows))


def test_near_equal_rows_are_folded_and_named_ones_never() -> None:
    twenty = [measured(0.5 + number / 1000, LOSSES, size=6000 + 5 * number) for number in range(20)]
    far = measured(0.9, LOSSES, size=12_000)
    result = result_of(*twenty, far, recommended=7)
    kept = distinct(result)
    assert [point.trial for point, _ in kept] == [7, 20]
    assert sorted(one.trial for _, like in kept for one in like) == [number for number in range(20) if number != 7]
    named = dataclasses.replace(result, named={"smallest": twenty[0].config.digest, "knee": twenty[1].config.digest})
    assert [point.trial for point, _ in distinct(named)] == [0, 1, 7, 20]


def test_what_is_over_a_limit_is_not_like_what_is_not() -> None:
    result = result_of(measured(0.5, LOSSES), measured(0.51, LOSSES))
    over = dataclasses.replace(result.front[1], feasible=False)
    assert len(distinct(result)) == 1
    assert len(distinct(dataclasses.replace(result, front=[result.front[0], over]))) == 2
