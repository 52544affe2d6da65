"""The search loop: what runs, what is recorded, when it stops, and that a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from autokv.config import CompressionConfig, IntegerQuantization
from autokv.errors import AutoKVError, ConfigError, InfeasibleError, Interrupted, ModelError, RequestError
from autokv.evaluation.measurement import Measurement
from autokv.search_spaces import SearchSpace, build_space, load_space
from autokv.tuning.hypervolume import hypervolume
from autokv.tuning.objectives import losses
from autokv.tuning.request import TuningRequest
from autokv.tuning.search import Progress, SearchOutcome, search
from autokv.tuning.trial import TrialRecord

Evaluate = Callable[[Sequence[CompressionConfig]], list[Measurement | AutoKVError]]
SAMPLERS = ("tpe", "nsgaii", "random")  # gp takes seconds for a candidate: it has a test of its own
LITTLE = build_space(
    {
        "name": "little",
        "stages": {
            "eviction": [{"method": "none"}, {"method": ["snapkv", "tova"], "keep_ratio": [0.25, 0.5, 0.75]}],
            "quantization": [{"method": ["none", "fp8"]}],
        },
        "literature": [{"name": "fp8", "pipeline": {"quantization": {"method": "fp8"}}}],
    },
    "little.yaml",
).fitted(64)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("quantization-only").fitted(64)


def ask(**changes: Any) -> TuningRequest:  # noqa: ANN401
    return TuningRequest(**({"model": "m", "trials": 12} | changes))


def told(records: Sequence[TrialRecord]) -> list[tuple[Any, ...]]:
    return [(one.number, one.state, one.source, one.config and one.config.digest) for one in records]


def test_literature_first_then_the_sampler(space: SearchSpace, analytic: Evaluate) -> None:
    stored: list[TrialRecord] = []
    outcome = search(ask(), space, evaluate=analytic, on_trial=stored.append)
    known = len(space.literature)
    assert [one.source for one in stored[:known]] == [f"literature: {name}" for name in space.literature]
    assert {one.source for one in stored[known:]} == {"tpe"}
    assert [one.number for one in stored] == list(range(12))
    assert outcome == SearchOutcome(tuple(stored), "trials")
    for one in stored:
        assert one.config is not None
        assert one.measurement is not None
        assert space.to_config(one.params) == one.config == one.measurement.config


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_same_trials_other_seed_others(space: SearchSpace, analytic: Evaluate, sampler: str) -> None:
    request = ask(sampler=sampler, trials=20, batch_size=5)
    first = search(request, space, evaluate=analytic)
    assert told(first.trials) == told(search(request, space, evaluate=analytic).trials)
    other = search(request.model_copy(update={"seed": 1}), space, evaluate=analytic)
    assert told(first.trials) != told(other.trials)
    digests = [one.config.digest for one in first.trials if one.config]
    assert len(set(digests)) == 20, "no configuration runs twice"


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_samplers_learn(space: SearchSpace, sampler: str, analytic: Evaluate) -> None:
    """What is told decides what is asked: with the objective turned round, the same seed asks for other points."""

    def turned(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        found: list[Measurement | AutoKVError] = []
        for one in analytic(configs):
            assert isinstance(one, Measurement)
            samples = [{**sample, "kl_divergence": 1 / sample["kl_divergence"]} for sample in one.samples]
            found.append(Measurement.of_samples(one.config, samples))
        return found

    request = ask(sampler=sampler, trials=32, objectives=("kl_divergence", "kv_bytes_per_token"))
    plain = search(request, space, evaluate=analytic).trials
    other = search(request, space, evaluate=turned).trials
    assert told(plain)[:7] == told(other)[:7]
    assert told(plain)[-12:] != told(other)[-12:]


def test_random_starts_without_the_literature(space: SearchSpace, analytic: Evaluate) -> None:
    assert {one.source for one in search(ask(sampler="random"), space, evaluate=analytic).trials} == {"random"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_run_goes_on_as_it_would_have(space: SearchSpace, analytic: Evaluate, sampler: str) -> None:
    whole = search(ask(sampler=sampler, trials=24), space, evaluate=analytic)
    half = search(ask(sampler=sampler, trials=12), space, evaluate=analytic)
    rest: list[TrialRecord] = []
    resumed = search(
        ask(sampler=sampler, trials=24), space, evaluate=analytic, existing=half.trials, on_trial=rest.append
    )
    assert told(resumed.trials) == told(whole.trials)
    assert [one.number for one in rest] == list(range(12, 24)), "what was stored is not told again"


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, ModelError])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_kill_loses_no_more_than_its_batch(
    space: SearchSpace, analytic: Evaluate, sampler: str, fatal: type[BaseException]
) -> None:
    stored: list[TrialRecord] = []
    batches = 0

    def dying(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        nonlocal batches
        batches += 1
        if batches == 4:
            raise fatal("killed")
        return analytic(configs)

    request = ask(sampler=sampler, trials=20)
    with pytest.raises(fatal):
        search(request, space, evaluate=dying, on_trial=stored.append)
    assert len(stored) == 12
    outcome = search(request, space, evaluate=analytic, existing=stored, on_trial=stored.append)
    assert told(outcome.trials) == told(stored)
    assert [one.number for one in stored] == list(range(20))
    assert len({one.config.digest for one in stored if one.config}) == 20


def test_a_half_stored_batch_is_neither_lost_nor_repeated(space: SearchSpace, analytic: Evaluate) -> None:
    whole = search(ask(), space, evaluate=analytic).trials
    resumed = search(ask(), space, evaluate=analytic, existing=whole[:6])
    assert told(resumed.trials)[:6] == told(whole)[:6]
    assert [one.number for one in resumed.trials] == list(range(12))
    assert {one.source for one in resumed.trials[:7]} == {f"literature: {name}" for name in space.literature}


def test_a_failure_is_recorded_and_the_search_goes_on(space: SearchSpace, analytic: Evaluate) -> None:
    def failing(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        return [
            AutoKVError("no luck", field="here") if "hadamard" in one.canonical_json else analytic([one])[0]
            for one in configs
        ]

    trials = search(ask(trials=20), space, evaluate=failing).trials
    failed = [one for one in trials if one.state == "failed"]
    assert failed
    assert all(one.reason == "here: no luck" and one.measurement is None for one in failed)
    assert len(trials) == 20, "a failure counts as a run"
    assert trials[-1].number == 19


def test_one_fault_does_not_take_its_batch_along(space: SearchSpace, analytic: Evaluate) -> None:
    def exploding(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        if any(one.pipeline.quantization.method == "fp8" for one in configs):
            raise MemoryError("out of it")
        return analytic(configs)

    trials = search(ask(), space, evaluate=exploding).trials
    for one in trials:
        assert one.config is not None
        fp8 = one.config.pipeline.quantization.method == "fp8"
        assert (one.state, one.reason) == (("failed", "MemoryError: out of it") if fp8 else ("complete", None))


def test_what_lacks_a_metric_failed(space: SearchSpace, analytic: Evaluate) -> None:
    trials = search(ask(trials=2, objectives=("nll_delta", "kv_bytes_per_token")), space, evaluate=analytic).trials
    assert [one.reason for one in trials] == ["nll_delta was not measured"] * 2


def test_what_cannot_run_is_recorded_and_not_run(space: SearchSpace, analytic: Evaluate) -> None:
    ran: list[CompressionConfig] = []

    def fits(config: CompressionConfig) -> None:
        quantization = config.pipeline.quantization
        if quantization.method == "fp8":
            raise InfeasibleError("not on this device")
        if isinstance(quantization, IntegerQuantization) and quantization.key.axis == "token":
            raise ConfigError("does not fit")

    def recording(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        ran.extend(configs)
        return analytic(configs)

    outcome = search(ask(trials=16), space, evaluate=recording, fits=fits)
    refused = [one for one in outcome.trials if one.state == "infeasible"]
    assert {one.reason for one in refused} == {"not on this device", "does not fit"}
    assert len(ran) == 16 == len(outcome.trials) - len(refused)
    assert not {one.digest for one in ran} & {one.config.digest for one in refused if one.config}
    resumed = search(ask(trials=24), space, evaluate=recording, fits=fits, existing=outcome.trials)
    digests = [one.config.digest for one in resumed.trials if one.config]
    assert len(digests) == len(set(digests)), "what was refused is not tried again"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_space_with_nothing_feasible_ends(space: SearchSpace, analytic: Evaluate, sampler: str) -> None:
    def fits(config: CompressionConfig) -> None:
        raise InfeasibleError("never")

    outcome = search(ask(sampler=sampler), space, evaluate=analytic, fits=fits)
    assert outcome.stopped_by == "exhausted"
    assert outcome.trials
    assert {one.state for one in outcome.trials} == {"infeasible"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_space_is_used_up(analytic: Evaluate, sampler: str) -> None:
    outcome = search(ask(sampler=sampler, trials=100), LITTLE, evaluate=analytic)
    assert outcome.stopped_by == "exhausted"
    every = {LITTLE.to_config(point).digest for point in LITTLE.grid()}
    assert sorted(one.config.digest for one in outcome.trials if one.config) == sorted(every)


def test_points_that_make_no_configuration_are_recorded(analytic: Evaluate) -> None:
    odd = build_space(
        {
            "name": "odd",
            "stages": {
                "quantization": [{"method": ["none", "fp8"]}],
                "low_rank": [{"method": "residual", "key_rank": [2, 4], "value_rank": 0}],
            },
        },
        "odd.yaml",
    ).fitted(64)
    outcome = search(ask(), odd, evaluate=analytic)
    assert sorted(one.state for one in outcome.trials) == ["complete", "complete", "infeasible", "infeasible"]
    refused = next(one for one in outcome.trials if one.state == "infeasible")
    assert refused.config is None
    assert "low_rank.method 'residual'" in str(refused.reason)


def test_stops_on_time_and_counts_what_was_spent_before(space: SearchSpace, analytic: Evaluate) -> None:
    now = 0.0

    def slow(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        nonlocal now
        now += 10 * len(configs)
        return analytic(configs)

    seen: list[Progress] = []
    outcome = search(ask(timeout=70), space, evaluate=slow, clock=lambda: now, on_progress=seen.append)
    assert (outcome.stopped_by, len(outcome.trials)) == ("timeout", 8)
    assert [one.seconds for one in outcome.trials] == [10.0] * 8
    assert (seen[-1].trials_done, seen[-1].trials_total, seen[-1].seconds, seen[-1].seconds_left) == (8, 12, 80, 0)
    assert seen[-2].seconds_left == 30, "the timeout is nearer than the last trial"
    resumed = search(ask(timeout=100), space, evaluate=slow, clock=lambda: now, existing=outcome.trials)
    assert (resumed.stopped_by, len(resumed.trials)) == ("trials", 12)


def test_stops_when_the_front_no_longer_moves(space: SearchSpace, analytic: Evaluate) -> None:
    def same(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        alike = analytic([CompressionConfig()])[0]
        assert isinstance(alike, Measurement)
        return [Measurement(one, alike.metrics, alike.samples) for one in configs]

    outcome = search(ask(trials=100, patience=8), space, evaluate=same)
    assert (outcome.stopped_by, len(outcome.trials)) == ("patience", 12)
    moving = search(ask(trials=20, patience=19), space, evaluate=analytic)
    assert moving.stopped_by == "trials"


def test_stops_when_asked(space: SearchSpace, analytic: Evaluate) -> None:
    stored: list[TrialRecord] = []
    outcome = search(ask(), space, evaluate=analytic, on_trial=stored.append, should_stop=lambda: len(stored) >= 4)
    assert (outcome.stopped_by, len(outcome.trials)) == ("interrupt", 4)

    def interrupted(configs: Sequence[CompressionConfig]) -> list[Measurement | AutoKVError]:
        raise Interrupted("stopped")

    assert search(ask(), space, evaluate=interrupted) == SearchOutcome((), "interrupt")


def test_progress_counts(space: SearchSpace, analytic: Evaluate) -> None:
    seen: list[Progress] = []
    search(ask(), space, evaluate=analytic, on_progress=seen.append)
    assert [one.trials_done for one in seen] == [4, 8, 12]
    assert all(one.hypervolume > 0 and 1 <= one.front_size <= one.trials_done for one in seen)
    assert seen[-1].seconds_left == 0


@pytest.mark.parametrize("limits", [{}, {"maximums": {"kl_divergence": 0.02}}], ids=["free", "bounded"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("stored", [0, 8, 10])
def test_the_hypervolume_never_falls(
    space: SearchSpace, analytic: Evaluate, sampler: str, limits: dict[str, Any], stored: int
) -> None:
    seen: list[float] = []
    request = ask(trials=40, sampler=sampler, seed=3, **limits)

    def note(progress: Progress) -> None:
        seen.append(progress.hypervolume)
        assert progress.trials_done <= progress.trials_total == 40

    existing: tuple[TrialRecord, ...] = ()
    if stored:
        # An earlier process was killed after so many trials, in the middle of a batch or behind it.
        existing = search(request, space, evaluate=analytic, on_progress=note).trials[:stored]
        seen = seen[: stored // 4]
    trials = search(request, space, evaluate=analytic, existing=existing, on_progress=note).trials
    assert len(trials) == 40
    assert seen[-1] > seen[0]
    assert all(later >= earlier * (1 - 1e-12) for earlier, later in pairwise(seen))
    # By hand: the frame is that of the first batch with a trial within the bound.
    bound = limits.get("maximums", {}).get("kl_divergence", float("inf"))
    points = [
        [
            losses(one.measurement, request.objectives)
            for one in trials[start : start + 4]
            if one.measurement is not None and within(one, bound)
        ]
        for start in range(0, 40, 4)
    ]
    first = np.array(next(batch for batch in points if batch))
    low, span = first.min(axis=0), np.ptp(first, axis=0)
    every = (np.array([point for batch in points for point in batch]) - low) / np.where(span > 0, span, 1.0)
    assert seen[-1] == pytest.approx(hypervolume(every, np.full(3, 1.1)) / 1.1**3)


def within(record: TrialRecord, bound: float) -> bool:
    return record.measurement is not None and record.measurement.value("kl_divergence") <= bound


def test_constraints_steer_the_search(analytic: Evaluate) -> None:
    space = load_space("balanced").fitted(64)
    limits: dict[str, Any] = {"maximums": {"kl_divergence": 0.01}}

    def share(**changes: Any) -> float:  # noqa: ANN401
        good = 0
        for seed in range(3):
            trials = search(ask(trials=48, seed=seed, **changes), space, evaluate=analytic).trials[24:]
            good += sum(one.measurement.value("kl_divergence") <= 0.01 for one in trials if one.measurement)
        return good / 72

    assert share(**limits) > share(sampler="random", **limits) + 0.1


def test_gp_guides_the_search_and_can_be_resumed(space: SearchSpace, analytic: Evaluate) -> None:
    request = ask(sampler="gp", trials=13, batch_size=1, objectives=("kl_divergence",))
    whole = search(request, space, evaluate=analytic)
    resumed = search(request, space, evaluate=analytic, existing=whole.trials[:11])
    assert told(resumed.trials) == told(whole.trials)
    unguided = search(request.model_copy(update={"sampler": "tpe"}), space, evaluate=analytic)
    configs = [[one.config for one in outcome.trials] for outcome in (whole, unguided)]
    assert configs[0][:10] == configs[1][:10], "before there are ten trials both draw at random"
    assert configs[0][10:] != configs[1][10:]


def test_a_space_too_wide_for_gp_is_refused(analytic: Evaluate) -> None:
    methods = ("snapkv", "tova", "h2o", "knorm", "keydiff", "lagkv", "expected_attention", "random")
    alternatives = [
        {
            "method": method,
            "keep_ratio": [0.5, 0.6 + index / 100],
            "sink_tokens": [4, 5 + index],
            "recent_tokens": [9, 10 + index],
        }
        for index, method in enumerate(methods)
    ]
    wide = build_space({"name": "wide", "stages": {"eviction": alternatives}}, "wide.yaml")
    with pytest.raises(RequestError, match=r"sampler: a Gaussian process is lost in the 25 .* use tpe"):
        search(ask(sampler="gp"), wide, evaluate=analytic)
