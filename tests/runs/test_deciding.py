"""What a decision says once it is known how the trace is served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement, Statistics
from autokv.runs.deciding import decided
from autokv.runs.serving_judge import ServingJudge
from autokv.serving import SLO, CostModel, Curve, Grid, SequenceBytes
from autokv.serving.compare import compare
from autokv.serving.simulator import SimulatedEngine
from autokv.serving.verdict import more
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import Decision, FrontPoint, TrialRecord, TuningResult
from autokv.workload import synthesize

SMALL = CompressionConfig.parse({"pipeline": {"quantization": {"method": "fp8"}}})
LIMITS = SLO(ttft_ms=2000, tpot_ms=100)


def costs(per_token: float, predicted: str | None = None) -> CostModel:
    return CostModel(
        rest=Curve((1.0, 2048.0), (0.01, 0.04)),
        prefill_attention=Curve((256.0, 8192.0), (0.0002, 0.1)),
        compress=Curve((1.0, 8192.0), (0.0, 0.0)),
        decode_attention=Grid((1,), (Curve((1.0, 8192.0), (1e-8, 8e-5)),)),
        sequence=SequenceBytes(per_token),
        predicted=predicted,
    )


class Judge:
    """A judge of a made-up device with so much memory."""

    def __init__(self, memory: float, *, predicted: str | None = None, moved: float = 1.0) -> None:
        self.full, self.moved = SimulatedEngine("16-bit", costs(1000.0, predicted), memory), moved
        self.small = SimulatedEngine("this configuration", costs(250.0, predicted), memory)
        self.asked: list[str] = []
        self.trace = synthesize(
            requests=80, seed=3, requests_per_s=25.0, input_tokens=(700, 2000), output_tokens=(60, 150)
        )

    def compared(self, config: CompressionConfig, *, max_rate: bool = False) -> Any:  # noqa: ANN401
        candidate = self.full if config.pipeline.is_identity else self.small
        return compare(self.trace, replace(candidate, name="this configuration"), self.full, slo=LIMITS)

    def advice(self, measurement: Measurement) -> tuple[str, ...]:
        self.asked.append(measurement.config.digest)
        return ("advice",)


def measurement(config: CompressionConfig, rate: float, **more: float) -> Measurement:
    figures = {"kl_divergence": 0.02, "kv_bytes_per_token": 500.0, "sustained_requests_per_s": rate, **more}
    statistics = {name: Statistics.of([value], maximize=False) for name, value in figures.items()}
    return Measurement(config, statistics, [{"id": "p", "attention_baseline_moved": more.get("moved", 1.0)}])


def result(chosen: CompressionConfig, **more: float) -> TuningResult:
    measured = [measurement(CompressionConfig(), 2.0, price_per_million_tokens=8.0), measurement(SMALL, 3.0, **more)]
    front = [FrontPoint(place, "tpe", one, one, feasible=True) for place, one in enumerate(measured)]
    trials = [
        TrialRecord(one.trial, "complete", {}, "tpe", one.calibration.config, one.calibration, None, 1.0)
        for one in front
    ]
    baseline = {name: one.mean for name, one in measured[0].metrics.items()}
    decision = Decision("sustained_requests_per_s", "as found without a trace", baseline=baseline)
    return TuningResult(("kl_divergence",), trials, front, chosen.digest, decision=decision)


def complete(found: TuningResult, judge: Judge) -> Decision:
    comparisons = {config.digest: judge.compared(config) for config in (CompressionConfig(), SMALL)}
    completed = decided(found, TuningRequest(model="m"), cast(ServingJudge, judge), comparisons).decision
    assert completed is not None
    return completed


def test_a_gain_is_said_in_figures_of_the_simulation() -> None:
    judge = Judge(5e6)
    decision = complete(result(SMALL, price_per_million_tokens=5.0), judge)
    found = judge.compared(SMALL)
    times = found.candidate.concurrent_requests / found.full.concurrent_requests
    goodput = found.candidate.report.goodput_requests_per_s / found.full.report.goodput_requests_per_s
    assert goodput >= 3
    assert decision.headline == (
        f"{times:.2g}× as many requests at once, sustains 50% more requests/s within the SLO, "
        f"goodput {goodput:.2g}× at this trace's rate, KL 0.02"
    )
    assert decision.advice == ("advice",)
    assert judge.asked == [SMALL.digest]
    assert decision.notes[1:] == (
        "A million output tokens cost 5 instead of 8 with 16 bits, at the rate that is sustained",
    )
    assert decision.objective == "sustained_requests_per_s"


def test_no_compression_is_said_with_the_memory_that_it_needs_and_advice_on_what_came_nearest() -> None:
    judge = Judge(1e9)
    decision = complete(result(CompressionConfig()), judge)
    peak = judge.compared(CompressionConfig()).full.report.peak_kv_bytes / 1e6
    assert (
        decision.headline == f"Compression does not help this workload: the 16-bit cache peaks at {peak:.3g} MB of 1 GB"
    )
    assert judge.asked == [SMALL.digest]


@pytest.mark.parametrize(("judge", "moved"), [(Judge(1e9, moved=2.0), 1.0), (Judge(1e9), 2.0)])
def test_a_pace_that_moved_is_said(judge: Judge, moved: float) -> None:
    notes = complete(result(SMALL, moved=moved), judge).notes
    assert notes[:1] == (
        "The 16-bit baseline's own time moved by 2× during the run: times are compared with the baseline beside them",
    )
    assert complete(result(SMALL, moved=1.1), Judge(1e9, moved=1.2)).notes[1:] == ()


def test_a_pace_that_moved_while_only_the_front_was_timed_is_said() -> None:
    found = result(SMALL, moved=2.0)
    untimed = [
        replace(one, measurement=replace(one.measurement, samples=[{"id": "p"}])) if one.measurement else one
        for one in found.trials
    ]
    notes = complete(replace(found, trials=untimed), Judge(1e9)).notes
    assert notes[0].startswith("The 16-bit baseline's own time moved by 2× during the run")


def test_a_pace_that_moved_too_far_takes_the_figures_back() -> None:
    note = complete(result(SMALL), Judge(1e9, moved=343.0)).notes[0]
    assert note.startswith("The 16-bit baseline's own time moved by 343× during the run: its times are unreliable")
    assert "tune again on a less busy machine" in note


def test_why_no_compressed_configuration_is_left_is_told_apart() -> None:
    found = result(CompressionConfig())
    alone = replace(found, front=found.front[:1])
    assert complete(alone, Judge(1e9)).headline.startswith("No compressed configuration is on the front")
    validation = found.front[1].validation
    assert validation is not None
    lossy = replace(validation, metrics={"kl_divergence": Statistics.of([9.0], maximize=False)})
    bounded = replace(found, front=[found.front[0], replace(found.front[1], validation=lossy)])
    assert complete(bounded, Judge(1e9)).headline.startswith(
        "No compressed configuration of the front keeps to the bounds"
    )


def test_what_decided_instead_of_a_rate_that_nothing_sustains_is_said() -> None:
    found = result(SMALL)
    assert found.decision is not None
    other = replace(found, decision=replace(found.decision, objective="throughput_tokens_per_s"))
    said = "No configuration keeps the SLO at any rate, so throughput decided"
    assert complete(other, Judge(1e9)).notes[0] == said
    assert said not in complete(found, Judge(1e9)).notes


def test_a_gain_of_more_than_everything_is_a_multiple() -> None:
    assert [more(share) for share in (-0.12, 0.85, 1.0, 66.01)] == [
        "12% fewer",
        "85% more",
        "2× as many",
        "67× as many",
    ]


def test_a_prediction_is_a_note() -> None:
    judge = Judge(1e9, predicted="Predicted for another device")
    assert complete(result(SMALL), judge).notes[1:] == ("Predicted for another device",)


def test_without_a_trace_the_decision_stays() -> None:
    found = result(SMALL)
    assert decided(found, TuningRequest(model="m"), None, {}) == found
    none = replace(found, decision=None, recommended=None)
    assert decided(none, TuningRequest(model="m"), None, {}) is none
