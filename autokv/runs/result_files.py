"""The files of a finished job, made from what the database holds of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autokv.config import ConfigurationDocument
from autokv.errors import StorageError
from autokv.report import write_results
from autokv.report.page import page
from autokv.runs.commands import resume_command
from autokv.storage import Database
from autokv.tuning.trial import TuningResult


def report(database: Database, job_id: str) -> str:
    """The report of a job as a page.

    Raises:
        StorageError: the job has no result yet.
    """
    result, _, facts = _stored(database, job_id)
    return page(result, facts)


def export(database: Database, job_id: str, directory: Path) -> tuple[TuningResult, dict[str, Path]]:
    """Write the result files of a job: the result as it is stored, and name to path.

    Raises:
        StorageError: the job has no result yet, or a file cannot be written.
    """
    result, documents, facts = _stored(database, job_id)
    return result, write_results(directory, result=result, documents=documents, job=facts)


def _stored(database: Database, job_id: str) -> tuple[TuningResult, dict[str, ConfigurationDocument], dict[str, Any]]:
    """A job's result, the documents of its configurations by digest, and the facts of the report."""
    job = database.jobs.get(job_id)
    result = database.results.of(job.id)
    if result is None:
        again = resume_command(job.id, database.shown)
        raise StorageError("has no result yet", field=f"job {job.id}", remedy=f"finish it with `{again}`")
    documents = {stored.digest: stored.document for stored in database.configurations.list(job=job.id)}
    workload = dict(job.workload or {})
    tasks = workload.pop("tasks", {}).get("note")
    recommended = documents.get(result.recommended or "")
    facts = {
        "id": job.id,
        "request": job.request.model_dump(mode="json"),
        "submission": job.submission,
        "model": job.model,
        "hardware": job.hardware,
        "contexts": workload.pop("contexts", {}) | ({"tasks": tasks} if tasks else {}),
        "serving": {
            **workload.pop("serving", {}),
            "comparison": None if recommended is None else recommended.serving,
        },
        "scenario": workload.pop("scenario", None),
        "workload": workload,
        "versions": dict(job.versions),
        "seconds": sum(trial.seconds for trial in result.trials),
        "finished": job.finished.strftime("%Y-%m-%d %H:%M UTC") if job.finished else None,
    }
    return result, documents, facts
