"""The tables of tuning. Rows are added and jobs change state; nothing measured is rewritten, and only deleting a job
deletes what belongs to it.

models ◄── jobs ◄── trials ◄── measurements ◄── samples
            ▲          ▲             ▲ (validation)
            └─ results ◄── front_points
                  ▲
                  └─ configurations

kernel_times

The service's tables are in :mod:`autokv.storage.service_tables`.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import (
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from autokv.storage.columns import Document, Line, UtcDateTime, database_now
from autokv.tuning.trial import StoppedBy, TrialState
from autokv.wire import JobState

Phase = Literal["calibration", "validation"]

DIGEST = 64
"""Characters of a SHA-256 in hexadecimal."""
JOB_ID = 12
"""Characters of the ids of jobs, and of everything else that has an id of its own."""


def new_id() -> str:
    """A new id: hexadecimal digits, unguessed but no secret."""
    return secrets.token_hex(JOB_ID // 2)


def one_of(column: str, names: object) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(name) for name in get_args(names))})", name=column)


class Base(DeclarativeBase):
    """Every constraint has a name, so that a later migration can change it on any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ModelRow(Base):
    """Facts of a model; one row per distinct set of facts."""

    __tablename__ = "models"

    fingerprint: Mapped[str] = mapped_column(String(DIGEST), primary_key=True)
    facts: Mapped[Any] = mapped_column(Document, nullable=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())


class JobRow(Base):
    """A tuning run: what was asked, what it ran on, how far it came, and who runs it now."""

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("state", JobState),
        Index(None, "created_at", "id"),
        Index(None, "state", "selector", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(JOB_ID), primary_key=True)
    state: Mapped[JobState] = mapped_column(String(16))
    request: Mapped[Any] = mapped_column(Document, nullable=False)
    model: Mapped[str | None] = mapped_column(String(DIGEST), ForeignKey("models.fingerprint"))
    hardware: Mapped[Any] = mapped_column(Document, nullable=True)
    workload: Mapped[Any] = mapped_column(Document, nullable=True)
    versions: Mapped[Any] = mapped_column(Document, nullable=False)
    reason: Mapped[str | None] = mapped_column(Line)
    stopped_by: Mapped[StoppedBy | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    attempts: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None] = mapped_column(String(32))
    owner_host: Mapped[str | None] = mapped_column(Line)
    owner_process: Mapped[int | None]
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the owner, if it has not been heard of by then, counts as gone."""
    local: Mapped[bool] = mapped_column(default=True, server_default=true())
    """Run by the command that submitted it; no other worker takes it."""
    selector: Mapped[str | None] = mapped_column(Line)
    """Canonical JSON of what a worker must have to run it; see :mod:`autokv.jobs.selector`."""
    submission: Mapped[Any] = mapped_column(Document, nullable=True)
    """What was submitted over HTTP, as it was sent."""
    trace: Mapped[str | None] = mapped_column(String(JOB_ID), ForeignKey("uploads.id"))
    prompts: Mapped[str | None] = mapped_column(String(JOB_ID), ForeignKey("uploads.id"))
    profile: Mapped[str | None] = mapped_column(String(JOB_ID), ForeignKey("hardware_profiles.id"))
    worker: Mapped[str | None] = mapped_column(String(JOB_ID), ForeignKey("workers.id"))
    crashes: Mapped[int] = mapped_column(default=0, server_default="0")
    """Attempts in a row that crashed without a finished trial."""
    conditions: Mapped[Any] = mapped_column(Document, nullable=True)
    """Type to status, reason, message and time."""
    progress: Mapped[Any] = mapped_column(Document, nullable=True)
    last_event: Mapped[int] = mapped_column(default=0, server_default="0")
    """Number of the newest event."""


class TrialRow(Base):
    """A finished trial."""

    __tablename__ = "trials"
    __table_args__ = (one_of("state", TrialState),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[TrialState] = mapped_column(String(16))
    params: Mapped[Any] = mapped_column(Document, nullable=False)
    source: Mapped[str] = mapped_column(Line)
    config: Mapped[Any] = mapped_column(Document, nullable=True)
    digest: Mapped[str | None] = mapped_column(String(DIGEST), index=True)
    reason: Mapped[str | None] = mapped_column(Line)
    seconds: Mapped[float] = mapped_column(Double)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())


class MeasurementRow(Base):
    """A trial's configuration, judged: once on calibration prompts, and each time that its front is confirmed."""

    __tablename__ = "measurements"
    __table_args__ = (
        one_of("phase", Phase),
        ForeignKeyConstraint(["job_id", "trial"], ["trials.job_id", "trials.number"]),
        Index(None, "job_id", "trial"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(String(JOB_ID))
    trial: Mapped[int]
    phase: Mapped[Phase] = mapped_column(String(16))
    metrics: Mapped[Any] = mapped_column(Document, nullable=False)


class SampleRow(Base):
    """What one prompt gave."""

    __tablename__ = "samples"

    measurement_id: Mapped[int] = mapped_column(ForeignKey("measurements.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    result: Mapped[Any] = mapped_column(Document, nullable=False)


class ResultRow(Base):
    """The outcome of a search. A job that is resumed leaves a further one, with the next number."""

    __tablename__ = "results"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fingerprint: Mapped[str] = mapped_column(String(DIGEST))
    trials: Mapped[int]
    objectives: Mapped[Any] = mapped_column(Document, nullable=False)
    recommended: Mapped[str | None] = mapped_column(String(DIGEST))
    named: Mapped[Any] = mapped_column(Document, nullable=False)
    reason: Mapped[str] = mapped_column(Line)
    hypervolume: Mapped[Any] = mapped_column(Document, nullable=False)
    importance: Mapped[Any] = mapped_column(Document, nullable=False)
    stopped_by: Mapped[StoppedBy] = mapped_column(String(16))
    decision: Mapped[Any] = mapped_column(Document, nullable=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())


class FrontPointRow(Base):
    """A point of a result's front, in the front's order."""

    __tablename__ = "front_points"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "result"], ["results.job_id", "results.number"]),
        ForeignKeyConstraint(["job_id", "trial"], ["trials.job_id", "trials.number"]),
    )

    job_id: Mapped[str] = mapped_column(String(JOB_ID), primary_key=True)
    result: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    trial: Mapped[int]
    source: Mapped[str] = mapped_column(Line)
    feasible: Mapped[bool]
    validation: Mapped[int | None] = mapped_column(ForeignKey("measurements.id"))


class ConfigurationRow(Base):
    """A configuration to download, with where its figures come from. ``roles``: recommended, fastest, front, …"""

    __tablename__ = "configurations"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "result"], ["results.job_id", "results.number"]),
        Index(None, "digest"),
        UniqueConstraint("id"),
    )

    id: Mapped[str] = mapped_column(String(JOB_ID), default=new_id)
    job_id: Mapped[str] = mapped_column(String(JOB_ID), primary_key=True)
    result: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(DIGEST), primary_key=True)
    roles: Mapped[Any] = mapped_column(Document, nullable=False)
    document: Mapped[Any] = mapped_column(Document, nullable=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())


class KernelTimeRow(Base):
    """A time that was measured, with everything that it depends on; ``key`` is the SHA-256 of ``document``. A key may
    be measured again: the newest row counts."""

    __tablename__ = "kernel_times"
    __table_args__ = (Index(None, "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(DIGEST))
    document: Mapped[Any] = mapped_column(Document, nullable=False)
    seconds: Mapped[float] = mapped_column(Double)
    spread: Mapped[float] = mapped_column(Double)
    runs: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())
