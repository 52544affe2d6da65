"""Measurements and the samples behind them: the rows that trials and fronts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, insert, select
from sqlalchemy.orm import Session

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.storage.tables import MeasurementRow, Phase, SampleRow


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


def add(session: Session, job_id: str, trial: int, phase: Phase, measurement: Measurement) -> int:
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


def load(session: Session, *where: ColumnElement[bool]) -> list[StoredMeasurement]:
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
