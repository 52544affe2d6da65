"""A tuning run: no compression, search, confirm the front on prompts that the search has not seen, recommend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autokv.config import CompressionConfig
from autokv.evaluation.baselines import FLOAT8, UNCOMPRESSED
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.naming import aim
from autokv.search_spaces import SearchSpace
from autokv.tuning.hypervolume import history
from autokv.tuning.objectives import Constraint, constraints_of, losses, meets, speedup, unusable
from autokv.tuning.pareto import pareto_front
from autokv.tuning.recommend import BYTES, Recommendation, no_rival, passes, recommend, required
from autokv.tuning.request import TuningRequest
from autokv.tuning.sampling import importance
from autokv.tuning.search import Evaluate, Progress, SearchOutcome, search
from autokv.tuning.trial import Decision, FrontPoint, TrialRecord, TuningResult

Confirm = Callable[[Sequence[Measurement]], Sequence[Measurement]]
BASELINE = "baseline: 16-bit"
"""Source of the trial of no compression."""
SLOWER = "Every compressed configuration that meets the constraints attends slower than 16 bits here, so bytes decided"


def run_search(
    request: TuningRequest,
    space: SearchSpace,
    *,
    evaluate: Evaluate,
    validate: Evaluate,
    confirm: Confirm = list,
    fits: Callable[[CompressionConfig], None] = lambda config: None,
    existing: Sequence[TrialRecord] = (),
    on_trial: Callable[[TrialRecord], None] = lambda record: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TuningResult:
    """Tune: judge no compression and fp8, the first trials; :func:`autokv.tuning.search`; then ``validate`` the front,
    no compression with it, ``request.batch_size`` configurations at once, and ``confirm`` all of it together.

    ``space`` is fitted to the model. An interrupted search is not validated: its result has the front so far and
    recommends nothing.

    Args:
        request: what is asked.
        space: where to search.
        evaluate: judges on calibration prompts.
        validate: judges on validation prompts.
        confirm: what of the validated front has to be found side by side; gives the measurements back in their order.
        fits: see :func:`autokv.tuning.search`, as the arguments after it.

    Raises:
        RequestError: the sampler cannot work on this space.
        Interrupted: ``validate`` or ``confirm`` was stopped.
    """
    outcome = search(
        request,
        space,
        evaluate=evaluate,
        first={BASELINE: UNCOMPRESSED, "baseline: fp8": FLOAT8},
        fits=fits,
        existing=existing,
        on_trial=on_trial,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    front = pareto_front(outcome.trials, request.objectives, constraints_of(request))
    interrupted = outcome.stopped_by == "interrupt"
    if front and not interrupted:
        numbers = {trial.number for trial in front}
        front += [one for one in outcome.trials if _is_uncompressed(one) and one.number not in numbers]
    validated = [] if interrupted else _validate(request, front, validate, confirm)
    return _result(request, space, outcome, front, validated)


def _is_uncompressed(trial: TrialRecord) -> bool:
    return trial.measurement is not None and trial.measurement.config.pipeline.is_identity


def _validate(
    request: TuningRequest, front: Sequence[TrialRecord], validate: Evaluate, confirm: Confirm
) -> list[Measurement | None]:
    """Measurements of the front on validation prompts; ``None`` for a point that failed there."""
    configs = [trial.config for trial in front if trial.config is not None]
    needed = {"kv_bytes_per_token", *request.objectives, *(one.metric for one in required(constraints_of(request)))}
    validated: list[Measurement | None] = []
    for start in range(0, len(configs), request.batch_size):
        for result in validate(configs[start : start + request.batch_size]):
            usable = isinstance(result, Measurement) and unusable(result, sorted(needed)) is None
            validated.append(result if isinstance(result, Measurement) and usable else None)
    confirmed = iter(confirm([one for one in validated if one is not None]))
    return [None if one is None else next(confirmed) for one in validated]


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
            feasible=validation is not None and passes(validation, constraints),
        )
        for trial, validation in zip(front, validated or [None] * len(front), strict=True)
        if trial.measurement is not None
    ]
    recommendation = recommend(points, objectives, constraints, request.utility)
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
        decision=None if recommendation.recommended is None else _decision(points, recommendation, constraints),
    )


def _decision(
    points: Sequence[FrontPoint], recommendation: Recommendation, constraints: Sequence[Constraint]
) -> Decision:
    """What decided; in words as far as they follow from bytes and quality."""
    found = {one.calibration.config.digest: one.validation for one in points if one.validation is not None}
    plain = next((one for one in found.values() if one.config.pipeline.is_identity), None)
    chosen = found[recommendation.recommended or ""]
    notes = (SLOWER,) if recommendation.slower else ()
    baseline = {} if plain is None else {name: one.mean for name, one in plain.metrics.items()}
    said = headline(chosen, plain, recommendation.objective, no_rival(found.values(), constraints))
    return Decision(recommendation.objective, said, notes=notes, baseline=baseline)


def headline(chosen: Measurement, plain: Measurement | None, objective: str = BYTES, none_left: str = "") -> str:
    """Bytes, quality and speed beside 16 bits, without a trace. Where 16 bits were chosen by ``objective``, why:
    ``none_left`` says that nothing else could be."""
    if chosen.config.pipeline.is_identity:
        if none_left or objective != BYTES:
            return none_left or f"No compressed configuration beats 16 bits: they have the {aim(objective)}"
        return "Compression does not help here: no configuration that meets the constraints is smaller and as fast"
    parts = [f"KL {chosen.value('kl_divergence'):.2g}"] if "kl_divergence" in chosen.metrics else []
    timed = speedup(chosen)
    if timed is not None:
        ratio, tie = timed
        change = "as fast as 16 bits" if tie else f"{max(ratio, 1 / ratio):.2g}× {'faster' if ratio > 1 else 'slower'}"
        parts.append(f"attention {change}")
    if plain is None:
        return f"{', '.join([f'{chosen.value(BYTES):,.0f} bytes per token', *parts])}"
    return ", ".join([f"{plain.value(BYTES) / chosen.value(BYTES):.2g}× smaller KV cache", *parts])


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
