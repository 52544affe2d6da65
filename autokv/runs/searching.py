"""A prepared job, run to its end under a lease; everything finished is stored as it finishes.

The last is the result and the documents of its front, with where their figures come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import Interrupted
from autokv.evaluation.evaluator import needs_of
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import CONFIRMED_METRICS, SERVING_METRICS
from autokv.runs.deciding import decided
from autokv.runs.executors import Results, TrialExecutor
from autokv.runs.executors.local import LocalExecutor
from autokv.runs.executors.tasked import TaskedExecutor, wants_tasks
from autokv.runs.listener import Listener, Stop
from autokv.runs.preparing import PreparedRun
from autokv.runs.serving_judge import ServingJudge
from autokv.serving.comparison import Comparison
from autokv.storage import Database, Job, Lease
from autokv.tuning.feasibility import CacheShape, feasibility
from autokv.tuning.run import run_search
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

MakeExecutor = Callable[[PreparedRun, Listener, Stop], TrialExecutor]


def local_executor(prepared: PreparedRun, listener: Listener, stop: Stop) -> TrialExecutor:
    """The executor that judges in this process."""
    needs = needs_of(prepared.space.statistics_configs())
    batch = prepared.plan.batch
    return LocalExecutor(prepared.model, prepared.prompts, prepared.request, needs, batch, listener.say, stop.check)


def run_job(
    database: Database,
    job: Job,
    prepared: PreparedRun,
    lease: Lease,
    listener: Listener,
    stop: Stop,
    make_executor: MakeExecutor,
) -> None:
    """Search, confirm, recommend and store; goes on where an earlier process stopped.

    Raises:
        Interrupted: it was stopped; what was finished is stored.
        LeaseLostError: the job is not this process's any more.
        AutoKVError: it cannot be run; nobody was told.
    """
    request, facts = prepared.request, prepared.model.facts
    contexts = tuple(len(prompt.context) for prompt in prepared.prompts.calibration)
    shape = CacheShape(len(facts.full_layers), facts.kv_heads, facts.head_dim, contexts)

    def store(record: TrialRecord) -> None:
        database.trials.add(job.id, record, lease=lease)
        listener.trial(record)

    executor = make_executor(prepared, listener, stop)
    tasked = TaskedExecutor(executor, prepared, listener, stop) if wants_tasks(prepared) else None
    executor = tasked or executor
    served = (lambda results: results) if prepared.serving is None else prepared.serving.each

    def calibrate(configs: Sequence[CompressionConfig]) -> Results:
        with stop.batch():
            return served(executor.calibrate(configs))

    def validate(configs: Sequence[CompressionConfig]) -> Results:
        stop.check()
        return served(executor.validate(configs))

    def confirm(measurements: Sequence[Measurement]) -> Sequence[Measurement]:
        if prepared.serving is None or not measurements:
            return measurements
        listener.say(f"timing {len(measurements)} configurations of the front again, in turn")
        return prepared.serving.confirmed(measurements)

    try:
        result = run_search(
            request,
            prepared.space,
            evaluate=calibrate,
            validate=validate,
            confirm=confirm,
            fits=feasibility(request, shape),
            existing=database.trials.of(job.id),
            on_trial=store,
            on_progress=listener.batch,
            should_stop=stop.asked,
        )
        if result.stopped_by == "interrupt":
            raise Interrupted("stopped")
        comparisons = _comparisons(result, prepared.serving)
        result = decided(result, request, prepared.serving, comparisons)
        for line in () if result.decision is None else result.decision.notes:
            listener.say(line)
        _save(database, job, result, prepared, comparisons, {} if tasked is None else tasked.facts, lease)
    finally:
        executor.close()


def _comparisons(result: TuningResult, serving: ServingJudge | None) -> dict[str, Comparison]:
    """What the recommended configuration and those with a name buy on the trace, by digest."""
    wanted = {*result.named.values(), *([result.recommended] if result.recommended else [])}
    return {
        point.calibration.config.digest: serving.compared(
            point.validation or point.calibration, max_rate=point.calibration.config.digest == result.recommended
        )
        for point in result.front
        if serving is not None and point.calibration.config.digest in wanted
    }


def _save(
    database: Database,
    job: Job,
    result: TuningResult,
    prepared: PreparedRun,
    comparisons: Mapping[str, Comparison],
    found: Mapping[str, Any],
    lease: Lease,
) -> None:
    """Store the result; ``found`` are facts of the workload that came up on the way."""
    provenance = {
        "job": job.id,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": prepared.request.seed,
        "sampler": prepared.request.sampler,
        "space": prepared.request.space,
        "versions": dict(job.versions),
        "reason": result.reason,
        "decision": None if result.decision is None else asdict(result.decision),
    }
    if result.recommended is not None and result.recommended in comparisons:
        result = replace(result, reason=f"{result.reason}; {comparisons[result.recommended].verdict}")
    documents = [
        _document(point, job, found, provenance, comparisons.get(point.calibration.config.digest))
        for point in result.front
    ]
    database.results.save(job.id, result, documents, workload=found, lease=lease)


def _document(
    point: FrontPoint, job: Job, found: Mapping[str, Any], provenance: Mapping[str, Any], comparison: Comparison | None
) -> ConfigurationDocument:
    """The document of one point of a front; what was not measured on the job's hardware is named as predicted."""
    judged = point.validation or point.calibration
    return ConfigurationDocument(
        pipeline=point.calibration.config.pipeline,
        model=dict(job.model or {}),
        hardware=dict(job.hardware or {}),
        workload={**(job.workload or {}), **found},
        measured=_metrics(point.calibration),
        validated=None if point.validation is None else _metrics(point.validation),
        serving=None if comparison is None else comparison.to_dict(),
        provenance={
            **provenance,
            "trial": point.trial,
            "source": point.source,
            "write": point.calibration.config.pipeline.write.rule,
            "predicted": sorted((SERVING_METRICS | CONFIRMED_METRICS).intersection(judged.metrics)),
        },
    )


def _metrics(measurement: Measurement) -> dict[str, Any]:
    return {name: asdict(statistics) for name, statistics in measurement.metrics.items()}
