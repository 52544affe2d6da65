"""What is told of jobs without loading what was measured on every prompt: trials, fronts, and figures for a monitor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session, aliased

from autokv.storage.queue import WAITING
from autokv.storage.repository import Repository, now
from autokv.storage.service_tables import WorkerRow
from autokv.storage.tables import ConfigurationRow, FrontPointRow, JobRow, MeasurementRow, ResultRow, TrialRow
from autokv.storage.tuning_results import latest
from autokv.wire import FrontPointView, FrontView, TrialView

_CALIBRATION = and_(
    MeasurementRow.job_id == TrialRow.job_id,
    MeasurementRow.trial == TrialRow.number,
    MeasurementRow.phase == "calibration",
)


@dataclass(frozen=True)
class Figures:
    """How the service fares."""

    jobs: Mapping[str, int]
    """State to count."""
    workers: Mapping[str, int]
    """State to count; ``gone`` was not heard of in time."""
    oldest_seconds: float
    """How long the oldest queued job has waited; 0 where none does."""
    trials: int


class Summaries(Repository):
    """Read only, and with few statements however much is stored of a job."""

    def trials(self, job_id: str, after: int = -1, limit: int = 100) -> list[TrialView]:
        """The trials of a job that follow number ``after``, at most ``limit``."""
        query = (
            select(TrialRow, MeasurementRow.metrics)
            .outerjoin(MeasurementRow, _CALIBRATION)
            .where(TrialRow.job_id == job_id, TrialRow.number > after)
            .order_by(TrialRow.number)
            .limit(limit)
        )
        with self._reading() as session:
            return [
                TrialView.model_validate({**vars(row), "metrics": metrics}) for row, metrics in session.execute(query)
            ]

    def front(self, job_id: str) -> FrontView | None:
        """The front of a job's last result; ``None`` where it has none."""
        with self._reading() as session:
            result = latest(session, job_id)
            if result is None:
                return None
            return FrontView.model_validate({**vars(result), "job": job_id, "points": _points(session, result)})

    def result_of(self, job_id: str) -> tuple[int, str | None] | None:
        """The number of a job's last result, and the id of the configuration that it recommends; ``None`` before."""
        query = (
            select(ResultRow.number, ConfigurationRow.id)
            .outerjoin(
                ConfigurationRow,
                and_(
                    ConfigurationRow.job_id == ResultRow.job_id,
                    ConfigurationRow.result == ResultRow.number,
                    ConfigurationRow.digest == ResultRow.recommended,
                ),
            )
            .where(ResultRow.job_id == job_id)
            .order_by(ResultRow.number.desc())
            .limit(1)
        )
        with self._reading() as session:
            found = session.execute(query).first()
        return None if found is None else (found[0], found[1])

    def figures(self) -> Figures:
        """Counts over everything that is stored."""
        states = select(JobRow.state, func.count()).group_by(JobRow.state)
        oldest = select(func.min(JobRow.created_at)).where(*WAITING)
        workers = select(WorkerRow.state, WorkerRow.until).where(WorkerRow.state != "stopped")
        with self._reading() as session:
            moment = now(session)
            jobs: dict[str, int] = {row[0]: row[1] for row in session.execute(states)}
            waiting = session.scalar(oldest)
            counted = {"ready": 0, "draining": 0, "gone": 0}
            for state, until in session.execute(workers):
                counted["gone" if until < moment else state] += 1
            trials = session.scalar(select(func.count()).select_from(TrialRow)) or 0
        seconds = 0.0 if waiting is None else max(0.0, (moment - waiting).total_seconds())
        return Figures(jobs, counted, seconds, trials)


def _points(session: Session, result: ResultRow) -> list[FrontPointView]:
    validation = aliased(MeasurementRow)
    query = (
        select(FrontPointRow, TrialRow, MeasurementRow.metrics, validation.metrics, ConfigurationRow)
        .join(TrialRow, and_(TrialRow.job_id == FrontPointRow.job_id, TrialRow.number == FrontPointRow.trial))
        .join(MeasurementRow, _CALIBRATION)
        .outerjoin(validation, validation.id == FrontPointRow.validation)
        .outerjoin(
            ConfigurationRow,
            and_(
                ConfigurationRow.job_id == FrontPointRow.job_id,
                ConfigurationRow.result == FrontPointRow.result,
                ConfigurationRow.digest == TrialRow.digest,
            ),
        )
        .where(FrontPointRow.job_id == result.job_id, FrontPointRow.result == result.number)
        .order_by(FrontPointRow.position)
    )
    return [
        FrontPointView(
            trial=point.trial,
            source=point.source,
            digest=trial.digest or "",
            configuration=None if stored is None else stored.id,
            roles=() if stored is None else tuple(stored.roles),
            feasible=point.feasible,
            config=trial.config,
            calibration=calibration,
            validation=validated,
        )
        for point, trial, calibration, validated, stored in session.execute(query)
    ]
