"""Trials and their measurements: what a resumed search is rebuilt from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, insert, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from autokv.config import CompressionConfig
from autokv.errors import ConflictError
from autokv.evaluation.measurement import Measurement
from autokv.storage.columns import fingerprint
from autokv.storage.events import append
from autokv.storage.lease import Lease
from autokv.storage.repository import Repository
from autokv.storage.tables import JobRow, MeasurementRow, Phase, SampleRow, TrialRow
from autokv.tuning.trial import TrialRecord


@dataclass(frozen=True)
class StoredMeasurement:
    """A measurement without its configuration, which is the trial's."""

    id: int
    trial: int
    metrics: dict[str, Any]
    samples: list[dict[str, Any]]

    def of(self, config: CompressionConfig) -> Measurement:
        """The measurement of ``config``."""
        document = {"config": config.model_dump(mode="json"), "metrics": self.metrics, "samples": self.samples}
        return Measurement.from_dict(document)


def add_measurement(session: Session, job_id: str, trial: int, phase: Phase, measurement: Measurement) -> int:
    """Store a measurement of a stored trial and return its id."""
    document = measurement.to_dict()
    row = MeasurementRow(job_id=job_id, trial=trial, phase=phase, metrics=document["metrics"])
    session.add(row)
    session.flush()
    samples = [
        {"measurement_id": row.id, "position": position, "result": sample}
        for position, sample in enumerate(document["samples"])
    ]
    if samples:
        session.execute(insert(SampleRow), samples)
    return row.id


def load_measurements(session: Session, *where: ColumnElement[bool]) -> list[StoredMeasurement]:
    """The measurements that meet ``where`` (conditions on :class:`MeasurementRow`), in the order of their storing."""
    found = {
        row.id: StoredMeasurement(row.id, row.trial, row.metrics, [])
        for row in session.scalars(select(MeasurementRow).where(*where).order_by(MeasurementRow.id))
    }
    samples = (
        select(SampleRow.measurement_id, SampleRow.result)
        .join(MeasurementRow, MeasurementRow.id == SampleRow.measurement_id)
        .where(*where)
        .order_by(SampleRow.measurement_id, SampleRow.position)
    )
    for measurement_id, result in session.execute(samples):
        found[measurement_id].samples.append(result)
    return list(found.values())


class Trials(Repository):
    """The repository of trials."""

    def add(self, job_id: str, record: TrialRecord, *, lease: Lease | None = None) -> None:
        """Store a finished trial with its samples, all or nothing; it is durable when this returns.

        A trial that the holder of ``lease`` has stored already, and that is equal, is stored: the answer to the first
        call may have been lost.

        Raises:
            ConflictError: the job has another trial of this number, or does not exist.
            LeaseLostError: ``lease`` is lost.
        """

        def add(session: Session) -> None:
            row = session.get(JobRow, job_id, with_for_update=True) if lease is None else lease.require(session)
            known = session.get(TrialRow, (job_id, record.number))
            if known is not None:
                if lease is not None and _same(session, known, record):
                    return
                raise ConflictError(
                    f"has a trial {record.number} already", field=f"job {job_id}", remedy="does another process run it?"
                )
            session.add(TrialRow(job_id=job_id, params=record.params, **_columns(record)))
            session.flush()
            if record.measurement is not None:
                add_measurement(session, job_id, record.number, "calibration", record.measurement)
            if row is not None:
                metrics = {} if record.measurement is None else record.measurement.metrics
                means = {name: statistics.mean for name, statistics in metrics.items()}
                append(session, row, "trial", {**_columns(record), "metrics": means})

        self._persist(add, again=lease is not None)

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
    calibration = load_measurements(session, MeasurementRow.job_id == job_id, MeasurementRow.phase == "calibration")
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


def _same(session: Session, row: TrialRow, record: TrialRecord) -> bool:
    about = (MeasurementRow.job_id == row.job_id, MeasurementRow.trial == row.number)
    measured = load_measurements(session, *about, MeasurementRow.phase == "calibration")
    return _key(_record(row, measured[0] if measured else None)) == _key(record)


def _key(record: TrialRecord) -> str:
    """Equal for equal records; NaN is equal to itself here."""
    measurement = None if record.measurement is None else record.measurement.to_dict()
    return fingerprint([_columns(record), record.params, measurement])


def _columns(record: TrialRecord) -> dict[str, Any]:
    """What is stored of a trial, and told of it, beside its parameters and its measurement."""
    return {
        "number": record.number,
        "state": record.state,
        "source": record.source,
        "config": None if record.config is None else record.config.model_dump(mode="json"),
        "digest": None if record.config is None else record.config.digest,
        "reason": record.reason,
        "seconds": record.seconds,
    }
