"""Trials: what a resumed search is rebuilt from."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from autokv.config import CompressionConfig
from autokv.errors import StorageError
from autokv.storage import measurements
from autokv.storage.lease import Lease
from autokv.storage.measurements import StoredMeasurement
from autokv.storage.sessions import Sessions
from autokv.storage.tables import MeasurementRow, TrialRow
from autokv.tuning.trial import TrialRecord


class Trials:
    """The repository of trials."""

    def __init__(self, reading: Sessions, writing: Sessions) -> None:
        self._reading, self._writing = reading, writing

    def add(self, job_id: str, record: TrialRecord, *, lease: Lease | None = None) -> None:
        """Store a finished trial with its samples, all or nothing; it is durable when this returns.

        Raises:
            StorageError: the job has a trial of this number or does not exist, or ``lease`` is lost.
        """
        with self._writing() as session:
            if lease is not None:
                lease.require(session)
            if session.get(TrialRow, (job_id, record.number)) is not None:
                raise StorageError(
                    f"has a trial {record.number} already", field=f"job {job_id}", remedy="does another process run it?"
                )
            session.add(
                TrialRow(
                    job_id=job_id,
                    number=record.number,
                    state=record.state,
                    params=record.params,
                    source=record.source,
                    config=None if record.config is None else record.config.model_dump(mode="json"),
                    digest=None if record.config is None else record.config.digest,
                    reason=record.reason,
                    seconds=record.seconds,
                )
            )
            session.flush()
            if record.measurement is not None:
                measurements.add(session, job_id, record.number, "calibration", record.measurement)

    def of(self, job_id: str) -> list[TrialRecord]:
        """Every trial of a job as it was stored, by number."""
        with self._reading() as session:
            return load(session, job_id)


def load(session: Session, job_id: str) -> list[TrialRecord]:
    """Every trial of a job, by number."""
    calibration = measurements.load(session, MeasurementRow.job_id == job_id, MeasurementRow.phase == "calibration")
    measured = {stored.trial: stored for stored in calibration}
    rows = session.scalars(select(TrialRow).where(TrialRow.job_id == job_id).order_by(TrialRow.number))
    return [_record(row, measured.get(row.number)) for row in rows]


def _record(row: TrialRow, measured: StoredMeasurement | None) -> TrialRecord:
    config = None if row.config is None else CompressionConfig.model_validate(row.config)
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
