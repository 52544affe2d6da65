"""A tuning run of a command, on this machine: from the request to the files."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autokv.errors import AutoKVError, ConflictError, Interrupted, StorageError
from autokv.report.results import pareto
from autokv.runs.commands import resume_command
from autokv.runs.listener import Listener, Stop
from autokv.runs.preparing import PreparedRun, plan_of, prepare_run
from autokv.runs.result_files import export
from autokv.runs.searching import run_job
from autokv.search_spaces import names
from autokv.storage import Database, Job
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import TuningResult


@dataclass(frozen=True)
class Finished:
    """A run that came to its end."""

    job_id: str
    result: TuningResult
    files: Mapping[str, Path]
    versions: Mapping[str, str]
    """Of what ran it."""

    def to_dict(self) -> dict[str, Any]:
        """What came of it, ready for JSON: what is recommended and why, the front as in ``pareto.json``, the files."""
        return {
            "job": self.job_id,
            "recommended": self.result.recommended,
            "named": dict(self.result.named),
            "reason": self.result.reason,
            "decision": None if self.result.decision is None else asdict(self.result.decision),
            "stopped_by": self.result.stopped_by,
            "trials": len(self.result.trials),
            "front": pareto(self.result),
            "files": {name: str(path) for name, path in self.files.items()},
            "versions": dict(self.versions),
        }


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
        prepared = prepare_run(request, database.kernel_times, listener, Stop(stop))
        job_id = database.jobs.create(prepared.request, **prepared.facts)
        listener.say(f"job {job_id} in {database.shown}")
        again = resume_command(job_id, database_url, output)
        return _run(database, database.jobs.get(job_id), prepared, output, listener, Stop(stop), again)


def resume(job_id: str, database_url: str, output: Path, listener: Listener, stop: threading.Event) -> Finished:
    """Go on with a stored job where it stopped; of a job that is done, write the files again.

    Raises:
        StorageError: there is no such job, it runs elsewhere, or it is the service's.
        Interrupted: ``stop`` was set; the job can be resumed.
    """
    with Database(database_url, create=False) as database:
        job = database.jobs.get(job_id)
        if job.state == "done":
            listener.say(f"job {job.id} is done; writing its files again")
            return _finished(database, job, output)
        if job.runner is not None:
            raise ConflictError(f"is running ({job.runner})", field=f"job {job.id}", remedy="wait for it, or stop it")
        listener.say(f"going on with job {job.id}: {job.trials} trials are stored")
        prepared = prepare_run(job.request, database.kernel_times, listener, Stop(stop), plan=plan_of(job))
        again = resume_command(job.id, database_url, output)
        return _run(database, job, prepared, output, listener, Stop(stop), again)


def _run(
    database: Database, job: Job, prepared: PreparedRun, output: Path, listener: Listener, stop: Stop, again: str
) -> Finished:
    """Run a job; ``again`` is the command that goes on with it where it is stopped."""
    with database.jobs.lease(job.id) as lease:
        try:
            run_job(database, job, prepared, lease, listener, stop)
        except Interrupted:
            stored = database.jobs.get(job.id).trials
            raise Interrupted(f"stopped; {stored} trials are stored", remedy=f"go on with `{again}`") from None
        except AutoKVError as error:
            # A database that cannot be written to cannot be told either.
            with suppress(StorageError):
                database.jobs.mark(job.id, "failed", str(error), lease=lease)
            raise
    return _finished(database, job, output)


def _finished(database: Database, job: Job, output: Path) -> Finished:
    result, files = export(database, job.id, output)
    return Finished(job.id, result, files, job.versions)


def _with_absolute_paths(request: TuningRequest) -> TuningRequest:
    """A job may be resumed from another folder."""
    paths = {
        name: str(Path(value).resolve())
        for name in ("model", "tokenizer", "workload", "text", "prompts", "space")
        if (value := getattr(request, name)) is not None and value not in names() and Path(value).exists()
    }
    return request.model_copy(update=paths)
