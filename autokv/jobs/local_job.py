"""A tuning run of a command, which is its own worker: from the request to the files."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autokv import settings
from autokv.errors import Interrupted, StorageError
from autokv.jobs.attempt import JobRun
from autokv.jobs.probing import Probed
from autokv.jobs.worker import register
from autokv.report.results import pareto
from autokv.runs.commands import resume_command
from autokv.runs.listener import Listener, Stop
from autokv.runs.preparing import PreparedRun, plan_of, prepare_run
from autokv.runs.result_files import export
from autokv.runs.searching import local_executor
from autokv.search_spaces import names
from autokv.storage import Database, Lease
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
        job, _ = database.queue.submit(prepared.request)
        listener.say(f"job {job.id} in {database.shown}")
        return _run(database, job.id, prepared, output, listener, stop)


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
            return _finished(database, job.id, output)
        job.check_free()
        listener.say(f"going on with job {job.id}: {job.trials} trials are stored")
        prepared = prepare_run(job.request, database.kernel_times, listener, Stop(stop), plan=plan_of(job))
        return _run(database, job.id, prepared, output, listener, stop)


@contextmanager
def claimed(database: Database, job_id: str, device: Probed, stop: threading.Event) -> Iterator[Lease]:
    """Claim a job of the command line as a worker that takes no other, and keep its heart beating while the block runs.
    ``stop`` is set when the lease is lost.

    Raises:
        ConflictError: the job runs elsewhere, is done, or is the service's.
    """
    over, seconds, pause = threading.Event(), settings.current().lease_seconds, settings.current().heartbeat_seconds
    worker = register(database, device, seconds, state="draining")

    def beat() -> None:
        while not over.wait(pause):
            with suppress(StorageError):
                if not database.queue.heartbeat(lease, seconds):
                    stop.set()
                database.workers.beat(worker, seconds)

    heart = threading.Thread(target=beat, name=f"heartbeat-{job_id}", daemon=True)
    try:
        lease = database.queue.take(worker, job_id, seconds).lease
        heart.start()
        yield lease
    finally:
        over.set()
        if heart.is_alive():
            heart.join()
        with suppress(StorageError):
            database.workers.state(worker, "stopped")


def _run(
    database: Database, job_id: str, prepared: PreparedRun, output: Path, listener: Listener, stop: threading.Event
) -> Finished:
    device = Probed(str(prepared.model.device), prepared.hardware)
    try:
        with claimed(database, job_id, device, stop) as lease, JobRun(database, lease) as run:
            run.carry_out(prepared, listener, Stop(stop), local_executor)
    except Interrupted:
        again = resume_command(job_id, database.url, output)
        stored = database.jobs.find(job_id).trials
        raise Interrupted(f"stopped; {stored} trials are stored", remedy=f"go on with `{again}`") from None
    return _finished(database, job_id, output)


def _finished(database: Database, job_id: str, output: Path) -> Finished:
    result, files = export(database, job_id, output)
    return Finished(job_id, result, files, database.jobs.find(job_id).versions)


def _with_absolute_paths(request: TuningRequest) -> TuningRequest:
    """A job may be resumed from another folder."""
    paths = {
        name: str(Path(value).resolve())
        for name in ("model", "tokenizer", "workload", "text", "prompts", "space")
        if (value := getattr(request, name)) is not None and value not in names() and Path(value).exists()
    }
    return request.model_copy(update=paths)
