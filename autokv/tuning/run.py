"""A tuning run: search, confirm the front on prompts that the search has not seen, recommend."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.search_spaces import SearchSpace
from autokv.tuning.hypervolume import history
from autokv.tuning.importance import importance
from autokv.tuning.objectives import constraints_of, losses, meets, unusable
from autokv.tuning.pareto import pareto_front
from autokv.tuning.recommend import recommend, required
from autokv.tuning.request import TuningRequest
from autokv.tuning.search import Evaluate, Progress, SearchOutcome, search
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult


def run_search(
    request: TuningRequest,
    space: SearchSpace,
    *,
    evaluate: Evaluate,
    validate: Evaluate,
    fits: Callable[[CompressionConfig], None] = lambda config: None,
    existing: Sequence[TrialRecord] = (),
    on_trial: Callable[[TrialRecord], None] = lambda record: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> TuningResult:
    """Tune: :func:`autokv.tuning.search`, then ``validate`` the front, ``request.batch_size`` configurations at once.

    ``space`` is fitted to the model. An interrupted search is not validated: its result has the front so far and
    recommends nothing.

    Raises:
        RequestError: the sampler cannot work on this space.
        Interrupted: ``validate`` was stopped.
    """
    outcome = search(
        request,
        space,
        evaluate=evaluate,
        fits=fits,
        existing=existing,
        on_trial=on_trial,
        on_progress=on_progress,
        should_stop=should_stop,
        clock=clock,
    )
    front = pareto_front(outcome.trials, request.objectives, constraints_of(request))
    validated = [] if outcome.stopped_by == "interrupt" else _validate(request, front, validate)
    return _result(request, space, outcome, front, validated)


def _validate(request: TuningRequest, front: Sequence[TrialRecord], validate: Evaluate) -> list[Measurement | None]:
    """Measurements of the front on validation prompts; ``None`` for a point that failed there."""
    configs = [trial.config for trial in front if trial.config is not None]
    needed = {"kv_bytes_per_token", *request.objectives, *(one.metric for one in required(constraints_of(request)))}
    validated: list[Measurement | None] = []
    for start in range(0, len(configs), request.batch_size):
        for result in validate(configs[start : start + request.batch_size]):
            usable = isinstance(result, Measurement) and unusable(result, sorted(needed)) is None
            validated.append(result if isinstance(result, Measurement) and usable else None)
    return validated


def _result(
    request: TuningRequest,
    space: SearchSpace,
    outcome: SearchOutcome,
    front: Sequence[TrialRecord],
    validated: Sequence[Measurement | None],
) -> TuningResult:
    constraints, objectives = constraints_of(request), request.objectives
    points = [
        FrontPoint(
            trial=trial.number,
            source=trial.source,
            calibration=trial.measurement,
            validation=validation,
            feasible=validation is not None and meets(validation, required(constraints)),
        )
        for trial, validation in zip(front, validated or [None] * len(front), strict=True)
        if trial.measurement is not None
    ]
    recommendation = recommend(points, objectives, constraints)
    counted = [
        losses(trial.measurement, objectives)
        if trial.measurement is not None and meets(trial.measurement, constraints)
        else None
        for trial in outcome.trials
    ]
    return TuningResult(
        objectives=objectives,
        trials=outcome.trials,
        front=points,
        recommended=recommendation.recommended,
        named=recommendation.named,
        reason=recommendation.reason if points else _why_nothing(outcome),
        hypervolume=history(counted),
        importance=importance(space, outcome.trials, objectives, request.seed),
        stopped_by=outcome.stopped_by,
    )


def _why_nothing(outcome: SearchOutcome) -> str:
    """One line for a search in which no candidate was measured."""
    if not outcome.trials:
        return "stopped before the first candidate had run"
    states = [trial.state for trial in outcome.trials]
    last = outcome.trials[-1]
    return (
        f"no candidate could be measured ({states.count('failed')} failed, {states.count('infeasible')} infeasible); "
        f"the last one: {last.reason}"
    )
