"""The tables of the service: what is uploaded, who works, what happened, and what names stand for.

blobs ◄── blob_chunks          hardware_profiles ◄── workers
  ▲                                    ▲                ▲
uploads ◄──────────────── jobs ────────┴────────────────┤
                           ▲                            │
                           ├─ attempts ─────────────────┘
                           ├─ events
                           └─ idempotency_keys
configurations ◄── aliases ◄── alias_moves
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, ScalarSelect, String, select
from sqlalchemy.orm import Mapped, column_property, mapped_column

from autokv.storage.columns import Document, Line, UtcDateTime, database_now
from autokv.storage.tables import DIGEST, JOB_ID, Base, ConfigurationRow, new_id, one_of
from autokv.wire import AliasAction, Outcome, UploadKind, WorkerState

ProfileSource = Literal["uploaded", "measured"]

KEY = 255
ALIAS = 100


class BlobRow(Base):
    """The bytes of a file, once however often it is uploaded."""

    __tablename__ = "blobs"

    digest: Mapped[str] = mapped_column(String(DIGEST), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())


class BlobChunkRow(Base):
    """A piece of a blob, in order."""

    __tablename__ = "blob_chunks"

    digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class UploadRow(Base):
    """A trace or a file of prompts; ``facts`` is what was found in it."""

    __tablename__ = "uploads"
    __table_args__ = (one_of("kind", UploadKind), Index(None, "kind", "created_at", "id"))

    id: Mapped[str] = mapped_column(String(JOB_ID), primary_key=True, default=new_id)
    kind: Mapped[UploadKind] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(Line)
    digest: Mapped[str] = mapped_column(String(DIGEST), ForeignKey("blobs.digest"))
    facts: Mapped[Any] = mapped_column(Document, nullable=False)
    created: Mapped[datetime] = mapped_column("created_at", UtcDateTime, default=database_now())
    size_bytes: Mapped[int] = column_property(select(BlobRow.size).where(BlobRow.digest == digest).scalar_subquery())


class HardwareProfileRow(Base):
    """A device: uploaded, or measured by a worker."""

    __tablename__ = "hardware_profiles"
    __table_args__ = (one_of("source", ProfileSource), Index(None, "fingerprint"), Index(None, "created_at", "id"))

    id: Mapped[str] = mapped_column(String(JOB_ID), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(Line)
    fingerprint: Mapped[str] = mapped_column(String(16))
    source: Mapped[ProfileSource] = mapped_column(String(16))
    profile: Mapped[Any] = mapped_column("document", Document, nullable=False)
    created: Mapped[datetime] = mapped_column("created_at", UtcDateTime, default=database_now())


class WorkerRow(Base):
    """A worker process; kept when it has stopped, because attempts name it."""

    __tablename__ = "workers"
    __table_args__ = (one_of("state", WorkerState), Index(None, "state", "until"))

    id: Mapped[str] = mapped_column(String(JOB_ID), primary_key=True, default=new_id)
    host: Mapped[str] = mapped_column(Line)
    process: Mapped[int]
    device: Mapped[str] = mapped_column(Line)
    labels: Mapped[Any] = mapped_column(Document, nullable=False)
    profile: Mapped[str] = mapped_column(String(JOB_ID), ForeignKey("hardware_profiles.id"))
    versions: Mapped[Any] = mapped_column(Document, nullable=False)
    state: Mapped[WorkerState] = mapped_column(String(16))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it counts as gone, if it is not heard of before."""


class AttemptRow(Base):
    """One process's run of a job; ``trials`` were stored when it began."""

    __tablename__ = "attempts"
    __table_args__ = (one_of("outcome", Outcome),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    worker: Mapped[str] = mapped_column(String(JOB_ID), ForeignKey("workers.id"))
    trials: Mapped[int]
    outcome: Mapped[Outcome | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Line)
    started: Mapped[datetime] = mapped_column("started_at", UtcDateTime, default=database_now())
    ended: Mapped[datetime | None] = mapped_column("ended_at", UtcDateTime)


class EventRow(Base):
    """Something that happened to a job; numbers of a job's events have no gaps."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[Any] = mapped_column(Document, nullable=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())


class IdempotencyKeyRow(Base):
    """A key that a submission came with, and the SHA-256 of that submission."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "job_id"),)

    key: Mapped[str] = mapped_column(String(KEY), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(DIGEST))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=database_now())


def _digest_of(configuration: Mapped[str]) -> ScalarSelect[str]:
    return select(ConfigurationRow.digest).where(ConfigurationRow.id == configuration).scalar_subquery()


class AliasRow(Base):
    """A name that stands for one configuration; ``revision`` counts its moves from 1."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(ALIAS), primary_key=True)
    revision: Mapped[int]
    configuration: Mapped[str] = mapped_column(String(JOB_ID), ForeignKey("configurations.id"))
    created: Mapped[datetime] = mapped_column("created_at", UtcDateTime, default=database_now())
    moved: Mapped[datetime] = mapped_column("moved_at", UtcDateTime, default=database_now())
    digest: Mapped[str] = column_property(_digest_of(configuration))


class AliasMoveRow(Base):
    """What an alias stood for at a revision, and how that came."""

    __tablename__ = "alias_moves"
    __table_args__ = (one_of("action", AliasAction),)

    alias: Mapped[str] = mapped_column(ForeignKey("aliases.name"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    configuration: Mapped[str] = mapped_column(String(JOB_ID), ForeignKey("configurations.id"))
    action: Mapped[AliasAction] = mapped_column(String(16))
    note: Mapped[str] = mapped_column(Line)
    time: Mapped[datetime] = mapped_column("created_at", UtcDateTime, default=database_now())
    digest: Mapped[str] = column_property(_digest_of(configuration))
