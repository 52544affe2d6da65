"""Trials: what a resumed search is rebuilt from."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from autokv.config import CompressionConfig
from autokv.errors import ConflictError
from autokv.storage import measurements
from autokv.storage.columns import fingerprint
from autokv.storage.events import append
from autokv.storage.lease import Lease
from autokv.storage.measurements import StoredMeasurement
from autokv.storage.retrying import through_outages
from autokv.storage.sessions import Sessions
from autokv.storage.tables import JobRow, MeasurementRow, TrialRow
from autokv.tuning.trial import TrialRecord


class Trials:
    """The repository of trials."""

    def __init__(self, reading: Sessions, writing: Sessions) -> None:
        self._reading, self._writing = reading, writing

    def add(self, job_id: str, record: TrialRecord, *, lease: Lease | None = None) -> None:
        """Store a finished trial with its samples, all or nothing; it is durable when this returns.

        A trial that the holder of ``lease`` has stored already, and that is equal, is stored: the answer to the first
        call may have been lost.

        Raises:
            ConflictError: the job has another trial of this number, or does not exist.
            LeaseLostError: ``lease`` is lost.
        """
        write = partial(self._add, job_id, record, lease)
        return write() if lease is None else through_outages(write)

    def _add(self, job_id: str, record: TrialRecord, lease: Lease | None) -> None:
        with self._writing() as session:
            if lease is not None:
                row: JobRow | None = lease.require(session)
            else:
                row = session.get(JobRow, job_id, with_for_update=True)
            if session.get(TrialRow, (job_id, record.number)) is not None:
                if lease is not None and _same(session, job_id, record):
                    return
                raise ConflictError(
                    f"has a trial {record.number} already", field=f"job {job_id}", remedy="does another process run it?"
                )
            digest = None if record.config is None else record.config.digest
            config = None if record.config is None else record.config.model_dump(mode="json")
            session.add(
                TrialRow(
                    job_id=job_id,
                    number=record.number,
                    state=record.state,
                    params=record.params,
                    source=record.source,
                    config=config,
                    digest=digest,
                    reason=record.reason,
                    seconds=record.seconds,
                )
            )
            session.flush()
            if record.measurement is not None:
                measurements.add(session, job_id, record.number, "calibration", record.measurement)
            if row is not None:
                append(session, row, "trial", _told(record))

    def of(self, job_id: str) -> list[TrialRecord]:
        """Every trial of a job as it was stored, by number."""
        with self._reading() as session:
            return load(session, job_id)


def count_ran(job_id: str | InstrumentedAttribute[str]) -> Select[int]:
    """How many trials of a job ran, which is what a request's ``trials`` counts.

    A candidate that is known not to run is stored as infeasible, and not counted.
    """
    return select(func.count()).where(TrialRow.job_id == job_id, TrialRow.state != "infeasible")


def load(session: Session, job_id: str) -> list[TrialRecord]:
    """Every trial of a job, by number."""
    calibration = measurements.load(session, MeasurementRow.job_id == job_id, MeasurementRow.phase == "calibration")
    measured = {stored.trial: stored for stored in calibration}
    rows = session.scalars(select(TrialRow).where(TrialRow.job_id == job_id).order_by(TrialRow.number))
    return [_record(row, measured.get(row.number)) for row in rows]


def _record(row: TrialRow, measured: StoredMeasurement | None) -> TrialRecord:
    where = f"trial {row.number} of job {row.job_id}"
    config = None if row.config is None else CompressionConfig.parse(row.config, where=where)
    return TrialRecord(
        number=row.number,
        state=row.state,
        params=row.params,
        source=row.source,
        config=config,
        measurement=measured.of(config) if measured is not None and config is not None else None,
        reason=row.reason,
        seconds=row.seconds,
    )


def _same(session: Session, job_id: str, record: TrialRecord) -> bool:
    mine = (TrialRow.job_id == job_id, TrialRow.number == record.number)
    row = session.scalars(select(TrialRow).where(*mine)).one()
    about = (MeasurementRow.job_id == job_id, MeasurementRow.trial == record.number)
    measured = measurements.load(session, *about, MeasurementRow.phase == "calibration")
    return _key(_record(row, measured[0] if measured else None)) == _key(record)


def _key(record: TrialRecord) -> str:
    """Equal for equal records; NaN is equal to itself here."""
    measurement = None if record.measurement is None else record.measurement.to_dict()
    config = None if record.config is None else record.config.model_dump(mode="json")
    rest = [record.number, record.state, record.params, record.source, record.reason, record.seconds]
    return fingerprint([*rest, config, measurement])


def _told(record: TrialRecord) -> dict[str, Any]:
    metrics = {} if record.measurement is None else record.measurement.metrics
    return {
        "number": record.number,
        "state": record.state,
        "source": record.source,
        "digest": None if record.config is None else record.config.digest,
        "config": None if record.config is None else record.config.model_dump(mode="json"),
        "metrics": {name: statistics.mean for name, statistics in metrics.items()},
        "reason": record.reason,
        "seconds": record.seconds,
    }
