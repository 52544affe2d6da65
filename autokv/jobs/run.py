"""A tuning run on this machine, from the request to the files; everything finished is stored as it finishes."""

from __future__ import annotations

import platform
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from autokv import settings
from autokv.errors import AutoKVError, Interrupted, StorageError
from autokv.evaluation.evaluator import needs_of
from autokv.evaluation.prompts import PromptSets, load_prompts
from autokv.hardware import probe
from autokv.jobs.documents import document
from autokv.jobs.judge import Judge
from autokv.jobs.plan import EvaluationPlan, check_measurable, make_plan
from autokv.jobs.results import export
from autokv.models import LoadedModel, load
from autokv.search_spaces import SearchSpace, load_space, names
from autokv.storage import Database, Job, Lease
from autokv.tuning.feasibility import CacheShape, feasibility
from autokv.tuning.request import TuningRequest
from autokv.tuning.run import run_search
from autokv.tuning.sampling import check_sampler
from autokv.tuning.search import Progress
from autokv.tuning.trial import TrialRecord, TuningResult
from autokv.workload import WorkloadTrace, read_trace

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
    trace: WorkloadTrace | None
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
        prepared = _prepare(request, listener, None)
        hardware = probe(str(prepared.model.device)).to_dict()
        job_id = database.jobs.create(
            request,
            model=prepared.model.facts.to_dict(),
            hardware={**hardware, "dtype": str(prepared.model.dtype).removeprefix("torch.")},
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
        return _run(database, job, _prepare(job.request, listener, plan), output, listener, stop)


def _prepare(request: TuningRequest, listener: Listener, plan: EvaluationPlan | None) -> _Prepared:
    """Everything that can be wrong with a request is found here; ``plan`` is that of an earlier process."""
    space = load_space(request.space)
    trace = None if request.workload is None else read_trace(request.workload)
    if trace is not None and trace.rejected.count:
        listener.say(
            f"{trace.name}: {trace.rejected.count} bad rows left out, the first in line {trace.rejected.lines[0]} "
            f"({trace.rejected.reason})"
        )
    listener.say(f"loading {request.model}")
    model = load(request.model, dtype=request.dtype, device=request.device)
    check_measurable(request, model.device)
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
    fitted = space.fitted(model.facts.head_dim)
    check_sampler(request.sampler, fitted)
    return _Prepared(request, fitted, model, trace, plan, prompts)


def _run(
    database: Database, job: Job, prepared: _Prepared, output: Path, listener: Listener, stop: threading.Event
) -> Finished:
    request = prepared.request

    def check() -> None:
        if stop.is_set():
            raise Interrupted("stopped")

    with database.jobs.lease(job.id) as lease:

        def store(record: TrialRecord) -> None:
            database.trials.add(job.id, record, lease=lease)
            listener.trial(record)

        needs = needs_of(prepared.space.statistics_configs())
        judge = Judge(prepared.model, prepared.prompts, request, needs, prepared.plan.batch, listener.say, check)
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
    documents = [
        document(
            point,
            model=job.model or {},
            hardware=job.hardware or {},
            workload=job.workload or {},
            provenance=provenance,
        )
        for point in result.front
    ]
    database.results.save(job.id, result, documents, lease=lease)


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
