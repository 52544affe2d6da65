"""A tuning run on this machine, from the request to the files; everything finished is stored as it finishes."""

from __future__ import annotations

import platform
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from autokv import settings
from autokv.errors import AutoKVError, Interrupted, StorageError
from autokv.evaluation.costs.sizes import weights_bytes
from autokv.evaluation.evaluator import needs_of
from autokv.evaluation.metrics import SERVING_METRICS
from autokv.evaluation.prompts import PromptSets, load_prompts
from autokv.hardware import HardwareProfile, find, probe
from autokv.jobs.documents import document
from autokv.jobs.judge import Judge
from autokv.jobs.plan import EvaluationPlan, check_measurable, make_plan
from autokv.jobs.results import export
from autokv.jobs.serving import ServingJudge
from autokv.models import LoadedModel, load
from autokv.search_spaces import SearchSpace, load_space, names
from autokv.serving.comparison import Comparison
from autokv.storage import Database, Job, Lease
from autokv.tuning.choice import chosen
from autokv.tuning.feasibility import CacheShape, feasibility
from autokv.tuning.request import TuningRequest
from autokv.tuning.run import run_search
from autokv.tuning.sampling import check_sampler
from autokv.tuning.search import Progress
from autokv.tuning.trial import TrialRecord, TuningResult
from autokv.workload import WorkloadTrace, read_trace
from autokv.workload.scenarios import Scenario, classify

PACKAGES = ("autokv", "torch", "transformers", "optuna", "numpy")


class Listener(Protocol):
    """Who is told how a run goes."""

    def say(self, text: str) -> None:
        """Something worth a line."""

    def trial(self, record: TrialRecord) -> None:
        """A trial has ended and is stored."""

    def batch(self, progress: Progress) -> None:
        """A batch of trials has ended."""


@dataclass(frozen=True)
class Finished:
    """A run that came to its end."""

    job_id: str
    result: TuningResult
    files: Mapping[str, Path]


@dataclass(frozen=True)
class _Prepared:
    """What a run needs besides the database; nothing of it is stored before all of it is there."""

    request: TuningRequest
    space: SearchSpace
    model: LoadedModel
    hardware: HardwareProfile
    trace: WorkloadTrace | None
    scenario: Scenario | None
    serving: ServingJudge | None
    plan: EvaluationPlan
    prompts: PromptSets


def start(
    request: TuningRequest, database_url: str, output: Path, listener: Listener, stop: threading.Event
) -> Finished:
    """Tune, storing a new job.

    Raises:
        InputError: something asked for cannot be used; nothing was stored.
        Interrupted: ``stop`` was set; the job can be resumed.
    """
    request = _with_absolute_paths(request)
    with Database(database_url) as database:
        prepared = _prepare(request, database, listener, stop, None)
        job_id = database.jobs.create(
            prepared.request,
            model=prepared.model.facts.to_dict(),
            hardware={**prepared.hardware.to_dict(), "dtype": str(prepared.model.dtype).removeprefix("torch.")},
            workload=_workload_facts(prepared),
            versions={"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        )
        listener.say(f"job {job_id} in {database_url}")
        return _run(database, database.jobs.get(job_id), prepared, output, listener, stop)


def resume(job_id: str, database_url: str, output: Path, listener: Listener, stop: threading.Event) -> Finished:
    """Go on with a stored job where it stopped; of a job that is done, write the files again.

    Raises:
        StorageError: there is no such job, or it runs elsewhere.
        Interrupted: ``stop`` was set; the job can be resumed.
    """
    with Database(database_url, create=False) as database:
        job = database.jobs.get(job_id)
        if job.state == "done":
            listener.say(f"job {job.id} is done; writing its files again")
            return _finished(database, job, output)
        if job.runner is not None:
            raise StorageError(f"is running ({job.runner})", field=f"job {job.id}", remedy="wait for it, or stop it")
        listener.say(f"going on with job {job.id}: {job.trials} trials are stored")
        contexts = (job.workload or {}).get("contexts", {})
        lengths = tuple(contexts["calibration"]), tuple(contexts["validation"])
        # A job of a version that timed single sequences goes on as it began.
        plan = EvaluationPlan(*lengths, tuple(contexts["notes"]), contexts.get("batch", 1))
        prepared = _prepare(job.request, database, listener, stop, plan)
        return _run(database, job, prepared, output, listener, stop)


def _prepare(
    request: TuningRequest, database: Database, listener: Listener, stop: threading.Event, plan: EvaluationPlan | None
) -> _Prepared:
    """Everything that can be wrong with a request is found here; ``plan`` is that of an earlier process."""
    load_space(request.space)
    trace = None if request.workload is None else read_trace(request.workload)
    for note in () if trace is None else _remarks(trace):
        listener.say(f"{request.workload}: {note}")
    listener.say(f"loading {request.model}")
    model = load(request.model, dtype=request.dtype, device=request.device)
    check_measurable(request, model.device)
    hardware = probe(str(model.device))
    target = hardware if request.hardware == "here" else find(request.hardware)
    scenario = None if trace is None else _scenario(request, model, trace, target)
    served = trace is not None and (trace.timed or request.rate is not None)
    if scenario is not None:
        listener.say(scenario.why[0])
        request = chosen(request, scenario, served=served)
        listener.say(f"space {request.space}; objectives {', '.join(request.objectives)}")
    plan = plan or make_plan(request, model, trace, settings.current().prefill_seconds)
    for note in plan.notes:
        listener.say(note)
    limit = model.facts.context_tokens
    prompts = load_prompts(
        model.tokenizer,
        text=request.text,
        prompts=request.prompts,
        tasks=request.tasks,
        calibration=plan.calibration,
        validation=plan.validation,
        continuation_tokens=request.continuation_tokens,
        context_limit=min(limit, (request.max_context_tokens or limit) + request.continuation_tokens),
        seed=request.seed,
    )
    fitted = load_space(request.space).fitted(model.facts.head_dim)
    check_sampler(request.sampler, fitted)
    serving = None
    if trace is not None and (served or SERVING_METRICS.intersection(request.metrics)):
        times = database.kernel_times
        listener.say("measuring what serving costs on this device")
        serving = ServingJudge(model, trace, request, hardware, target, times, partial(_raise_if, stop))
        for note in serving.notes:
            listener.say(note)
    return _Prepared(request, fitted, model, hardware, trace, scenario, serving, plan, prompts)


def _remarks(trace: WorkloadTrace) -> tuple[str, ...]:
    """What its reader left out, changed or found strange."""
    bad = trace.rejected
    left_out = [f"{bad.count} bad rows left out, the first in line {bad.lines[0]} ({bad.reason})"] if bad.count else []
    return (*left_out, *trace.notes)


def _scenario(request: TuningRequest, model: LoadedModel, trace: WorkloadTrace, target: HardwareProfile) -> Scenario:
    facts = model.facts
    found = classify(
        trace,
        context_tokens=facts.context_tokens,
        kv_bytes_per_token=facts.kv_bytes_per_token,
        weights_bytes=weights_bytes(model.model),
        memory_bytes=target.memory_bytes,
    )
    return found if request.scenario is None else found.overruled(request.scenario)


def _raise_if(stop: threading.Event) -> None:
    if stop.is_set():
        raise Interrupted("stopped")


def _run(
    database: Database, job: Job, prepared: _Prepared, output: Path, listener: Listener, stop: threading.Event
) -> Finished:
    request, check = prepared.request, partial(_raise_if, stop)
    with database.jobs.lease(job.id) as lease:

        def store(record: TrialRecord) -> None:
            database.trials.add(job.id, record, lease=lease)
            listener.trial(record)

        needs = needs_of(prepared.space.statistics_configs())
        judge = Judge(
            prepared.model,
            prepared.prompts,
            request,
            needs,
            prepared.plan.batch,
            prepared.serving,
            listener.say,
            check,
        )
        facts = prepared.model.facts
        contexts = tuple(len(prompt.context) for prompt in prepared.prompts.calibration)
        shape = CacheShape(len(facts.full_layers), facts.kv_heads, facts.head_dim, contexts)
        try:
            result = run_search(
                request,
                prepared.space,
                evaluate=judge.calibrate,
                validate=judge.validate,
                fits=feasibility(request, shape),
                existing=database.trials.of(job.id),
                on_trial=store,
                on_progress=listener.batch,
                should_stop=stop.is_set,
            )
            check()
        except Interrupted:
            raise _interrupted(database, job.id) from None
        except AutoKVError as error:
            # A database that cannot be written to cannot be told either.
            with suppress(StorageError):
                database.jobs.mark(job.id, "failed", str(error), lease=lease)
            raise
        _save(database, job, result, prepared, lease)
    return _finished(database, job, output)


def _save(database: Database, job: Job, result: TuningResult, prepared: _Prepared, lease: Lease) -> None:
    provenance = {
        "job": job.id,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": prepared.request.seed,
        "sampler": prepared.request.sampler,
        "space": prepared.request.space,
        "versions": dict(job.versions),
        "reason": result.reason,
    }
    comparisons = _comparisons(result, prepared.serving)
    if result.recommended in comparisons:
        result = replace(result, reason=f"{result.reason}; {comparisons[result.recommended].verdict}")
    documents = [
        document(
            point,
            model=job.model or {},
            hardware=job.hardware or {},
            workload=job.workload or {},
            provenance=provenance,
            comparison=comparisons.get(point.calibration.config.digest),
        )
        for point in result.front
    ]
    database.results.save(job.id, result, documents, lease=lease)


def _comparisons(result: TuningResult, serving: ServingJudge | None) -> dict[str, Comparison]:
    """What the recommended configuration and those with a name buy on the trace, by digest."""
    wanted = {*result.named.values(), *([result.recommended] if result.recommended else [])}
    return {
        point.calibration.config.digest: serving.compared(point.validation or point.calibration)
        for point in result.front
        if serving is not None and point.calibration.config.digest in wanted
    }


def _finished(database: Database, job: Job, output: Path) -> Finished:
    result, files = export(database, job.id, output)
    return Finished(job.id, result, files)


def _interrupted(database: Database, job_id: str) -> Interrupted:
    stored = database.jobs.get(job_id).trials
    return Interrupted(f"stopped; {stored} trials are stored", remedy=f"go on with `autokv tune --resume {job_id}`")


def _with_absolute_paths(request: TuningRequest) -> TuningRequest:
    """A job may be resumed from another folder."""
    paths = {
        name: str(Path(value).resolve())
        for name in ("model", "workload", "text", "prompts", "space")
        if (value := getattr(request, name)) is not None and value not in names() and Path(value).exists()
    }
    return request.model_copy(update=paths)


def _workload_facts(prepared: _Prepared) -> dict[str, Any]:
    trace = prepared.trace
    traffic = {} if trace is None else {"trace": trace.name, "format": trace.format, **asdict(trace.summary())}
    if prepared.scenario is not None:
        traffic["scenario"] = asdict(prepared.scenario)
    if prepared.serving is not None:
        traffic["serving"] = prepared.serving.facts
    sets = prepared.prompts
    return {
        **traffic,
        "prompts": sets.source,
        "continuation_tokens": prepared.request.continuation_tokens,
        "contexts": {
            "calibration": [len(prompt.context) for prompt in sets.calibration],
            "validation": [len(prompt.context) for prompt in sets.validation],
            "notes": list(prepared.plan.notes),
            "batch": prepared.plan.batch,
        },
    }
