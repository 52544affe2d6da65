"""A prepared job, run to its end under a lease; everything finished is stored as it finishes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autokv.config import CompressionConfig
from autokv.errors import Interrupted
from autokv.evaluation.evaluator import needs_of
from autokv.evaluation.measurement import Measurement
from autokv.runs.deciding import decided
from autokv.runs.executors import Results, TrialExecutor
from autokv.runs.executors.local import LocalExecutor
from autokv.runs.executors.simulating import SimulatingExecutor
from autokv.runs.executors.tasked import TaskedExecutor, wants_tasks
from autokv.runs.listener import Listener, Stop
from autokv.runs.preparing import PreparedRun
from autokv.runs.saving import save
from autokv.runs.serving_judge import ServingJudge
from autokv.serving.comparison import Comparison
from autokv.storage import Database, Job, Lease
from autokv.tuning.feasibility import CacheShape, feasibility
from autokv.tuning.run import run_search
from autokv.tuning.trial import TrialRecord, TuningResult

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
    if prepared.serving is not None:
        executor = SimulatingExecutor(executor, prepared.serving)

    def calibrate(configs: Sequence[CompressionConfig]) -> Results:
        with stop.batch():
            return executor.calibrate(configs)

    def validate(configs: Sequence[CompressionConfig]) -> Results:
        stop.check()
        return executor.validate(configs)

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
        save(database, job, result, prepared, comparisons, {} if tasked is None else tasked.facts, lease)
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
