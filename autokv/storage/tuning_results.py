"""Results: the front, the recommendation and the configurations to download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from autokv.config import ConfigurationDocument
from autokv.storage import attempts, trials
from autokv.storage.columns import fingerprint
from autokv.storage.lease import Lease, locked
from autokv.storage.repository import Repository, now
from autokv.storage.tables import ConfigurationRow, FrontPointRow, JobRow, MeasurementRow, ResultRow
from autokv.tuning.trial import Decision, FrontPoint, TrialRecord, TuningResult


class Results(Repository):
    """The repository of results. A job has one for each time that it was run to an end; the last one counts."""

    def save(
        self,
        job_id: str,
        result: TuningResult,
        documents: Sequence[ConfigurationDocument] = (),
        *,
        workload: Mapping[str, Any] | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Store a result whose trials are stored, and end the job, or give it back if it was stopped; all or nothing.

        A document's roles follow from ``result`` (``recommended``, the named ones, ``front``). Saving the result that
        was saved last again changes nothing. ``workload`` is added to what is stored of the job's workload.

        Raises:
            NotFoundError: there is no such job.
            ConflictError: a trial of the front is not stored.
            LeaseLostError: ``lease`` is lost.
        """
        key = fingerprint([_summary(result), [document.model_dump(mode="json") for document in documents]])

        def save(session: Session) -> None:
            job, last = locked(session, job_id), latest(session, job_id)
            known = last is not None and last.fingerprint == key
            if known and job.state in {"done", "interrupted"}:
                return
            if lease is not None:
                lease.require(session)
            if not known:
                _add(session, job_id, 1 if last is None else last.number + 1, key, result, documents)
            job.stopped_by = result.stopped_by
            if workload:
                job.workload = {**(job.workload or {}), **workload}
            _end(session, job, result)

        self._persist(save, again=lease is not None)

    def of(self, job_id: str) -> TuningResult | None:
        """The last result of a job, as it was saved; ``None`` where there is none yet."""
        with self._reading() as session:
            row = latest(session, job_id)
            if row is None:
                return None
            records = trials.load(session, job_id)[: row.trials]
            return TuningResult(
                objectives=tuple(row.objectives),
                trials=records,
                front=_front(session, row, records),
                recommended=row.recommended,
                named=row.named,
                reason=row.reason,
                hypervolume=row.hypervolume,
                importance=row.importance,
                stopped_by=row.stopped_by,
                decision=None if row.decision is None else Decision.from_dict(row.decision),
            )


def roles(result: TuningResult, digest: str) -> list[str]:
    """What a configuration is in a result, the most telling first."""
    named = [name for name, named in result.named.items() if named == digest]
    front = any(point.calibration.config.digest == digest for point in result.front)
    return ["recommended"] * (digest == result.recommended) + named + ["front"] * front


def _end(session: Session, job: JobRow, result: TuningResult) -> None:
    time = now(session)
    if result.stopped_by != "interrupt":
        told = {"recommended": result.recommended, "trials": sum(one.state != "infeasible" for one in result.trials)}
        attempts.finish(session, job, "done", result.reason, time, told)
    else:
        attempts.give_back(session, job, "released", result.reason, time)


def latest(session: Session, job_id: str) -> ResultRow | None:
    """The last result of a job."""
    query = select(ResultRow).where(ResultRow.job_id == job_id).order_by(ResultRow.number.desc()).limit(1)
    return session.scalars(query).first()


def _summary(result: TuningResult) -> dict[str, Any]:
    return {
        "trials": len(result.trials),
        "objectives": result.objectives,
        "recommended": result.recommended,
        "named": result.named,
        "reason": result.reason,
        "hypervolume": result.hypervolume,
        "importance": result.importance,
        "stopped_by": result.stopped_by,
        "decision": None if result.decision is None else asdict(result.decision),
        "front": [
            [point.trial, point.source, point.feasible, point.validation.to_dict() if point.validation else None]
            for point in result.front
        ],
    }


def _add(
    session: Session,
    job_id: str,
    number: int,
    key: str,
    result: TuningResult,
    documents: Sequence[ConfigurationDocument],
) -> None:
    summary = _summary(result)
    del summary["front"]
    session.add(ResultRow(job_id=job_id, number=number, fingerprint=key, **summary))
    session.flush()
    for position, point in enumerate(result.front):
        validation = None
        if point.validation is not None:
            validation = trials.add_measurement(session, job_id, point.trial, "validation", point.validation)
        session.add(
            FrontPointRow(
                job_id=job_id,
                result=number,
                position=position,
                trial=point.trial,
                source=point.source,
                feasible=point.feasible,
                validation=validation,
            )
        )
    for digest, document in {document.digest: document for document in documents}.items():
        session.add(
            ConfigurationRow(
                job_id=job_id,
                result=number,
                digest=digest,
                roles=roles(result, digest),
                document=document.model_dump(mode="json"),
            )
        )


def _front(session: Session, row: ResultRow, records: Sequence[TrialRecord]) -> list[FrontPoint]:
    query = select(FrontPointRow).where(FrontPointRow.job_id == row.job_id, FrontPointRow.result == row.number)
    points = session.scalars(query.order_by(FrontPointRow.position)).all()
    wanted = [point.validation for point in points if point.validation is not None]
    validated = {stored.id: stored for stored in trials.load_measurements(session, MeasurementRow.id.in_(wanted))}
    measured = {record.number: record.measurement for record in records if record.measurement is not None}
    front = []
    for point in points:
        calibration = measured[point.trial]
        validation = None if point.validation is None else validated[point.validation].of(calibration.config)
        front.append(FrontPoint(point.trial, point.source, calibration, validation, point.feasible))
    return front
