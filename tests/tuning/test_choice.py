"""What a workload's scenario decides, and what it leaves to the user."""

from __future__ import annotations

import numpy as np
import pytest

from autokv.errors import RequestError
from autokv.evaluation.metrics import SERVING_METRICS
from autokv.runs.preparing import chosen
from autokv.search_spaces import names
from autokv.tuning.request import DEFAULT_OBJECTIVES, TuningRequest
from autokv.workload import WorkloadTrace
from autokv.workload.scenarios import SCENARIOS, Scenario, classify


def scenario_of(name: str) -> Scenario:
    trace = WorkloadTrace("t", "test", np.arange(9.0), np.full(9, 500), np.full(9, 100))
    found = classify(trace, context_tokens=8192, kv_bytes_per_token=1e4, weights_bytes=1e9, memory_bytes=2e10)
    return found.overruled(name)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_gives_what_a_request_can_use(name: str) -> None:
    request = chosen(TuningRequest(model="m", workload="w"), scenario_of(name), served=True)
    assert request.space in names()
    assert request.objectives == SCENARIOS[name].objectives
    # It is stored, and read again, with what was chosen.
    again = TuningRequest.model_validate(request.model_dump(mode="json"))
    assert chosen(again, scenario_of("edge"), served=True) == again


def test_what_the_user_names_stays() -> None:
    asked = TuningRequest(model="m", workload="w", space="edge")
    request = chosen(asked, scenario_of("data-center"), served=True)
    assert request.space == "edge"
    assert request.objectives == SCENARIOS["data-center"].objectives
    asked = TuningRequest(model="m", workload="w", objectives=("kl_divergence",))
    assert chosen(asked, scenario_of("data-center"), served=True).objectives == ("kl_divergence",)


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_arrivals_no_serving_metric_is_asked_for(name: str) -> None:
    request = chosen(TuningRequest(model="m", workload="w"), scenario_of(name), served=False)
    assert len(request.objectives) >= 2
    assert not SERVING_METRICS.intersection(request.objectives)
    if len(set(SCENARIOS[name].objectives) - SERVING_METRICS) < 2:
        assert request.objectives == DEFAULT_OBJECTIVES


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objectives": ["kl_divergence", "ttft_ms"]}, "ttft_ms is about serving a trace; add a workload"),
        ({"maximums": {"tpot_ms": 50}}, "tpot_ms is about serving a trace; add a workload"),
        ({"rate": 3}, "rate is about serving a trace; add a workload"),
        ({"hardware": "h100-sxm"}, "hardware is about serving a trace; add a workload"),
        ({"workload": "w", "slo": {"p99": 3}}, "slo knows ttft_ms and tpot_ms, not 'p99'"),
        ({"workload": "w", "slo": {"ttft_ms": 0}}, "slo limits are positive"),
        ({"workload": "w", "kv_memory": -1}, "kv_memory"),
    ],
)
def test_what_makes_no_sense_about_serving_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TuningRequest.parse({"model": "m", **fields})


def test_a_stored_request_loads_by_the_earlier_name_of_a_field() -> None:
    earlier, now = ({"model": "m", "workload": "w", name: 512} for name in ("block_size", "hash_block_size"))
    assert TuningRequest.parse(earlier) == TuningRequest.parse(now)
    assert TuningRequest.parse(earlier).model_dump()["hash_block_size"] == 512
    with pytest.raises(RequestError, match="block_size"):
        TuningRequest.parse({**earlier, **now})
