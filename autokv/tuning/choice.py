"""What follows from a workload where a request leaves it open: the search space and the objectives."""

from __future__ import annotations

from autokv.evaluation.metrics import SERVING_METRICS
from autokv.tuning.request import DEFAULT_OBJECTIVES, TuningRequest
from autokv.workload.scenarios import Scenario


def chosen(request: TuningRequest, scenario: Scenario, *, served: bool) -> TuningRequest:
    """``request`` with the scenario's space and objectives, unless it names its own.

    Args:
        request: what was asked.
        scenario: of the workload.
        served: whether the trace can be simulated; without arrivals no serving metric exists.
    """
    objectives = scenario.objectives
    if not served:
        objectives = tuple(name for name in objectives if name not in SERVING_METRICS)
        if len(objectives) < 2:
            objectives = DEFAULT_OBJECTIVES
    follows = {"space": scenario.space, "objectives": objectives}
    return request.model_copy(
        update={name: value for name, value in follows.items() if name not in request.model_fields_set}
    )
