"""Configurations to download."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, Text, case, cast, func, or_, select
from sqlalchemy.orm import Session, aliased

from autokv.config import ConfigurationDocument
from autokv.errors import NotFoundError, StorageError
from autokv.storage.repository import SHOWN, Cursor, Repository, newest_first, only_match
from autokv.storage.tables import ConfigurationRow, JobRow, ModelRow

SHORTEST = 8
"""Characters of a digest that stand for it where no other digest begins so."""


@dataclass(frozen=True)
class StoredConfiguration:
    """A configuration that a job found, and what it is there; it never changes."""

    id: str
    digest: str
    job_id: str
    roles: tuple[str, ...]
    document: ConfigurationDocument
    created: datetime


@dataclass(frozen=True)
class Match:
    """A recommended configuration, and how near its job is to what was asked about."""

    configuration: StoredConfiguration
    hardware: bool
    """Whether it was found on, or for, a device that was asked about."""
    workload: bool
    """Whether it was found for a workload that was asked about."""
    reason: str
    """Why its job recommends it."""


class Configurations(Repository):
    """The repository of configurations; rows come with a job's result and never change."""

    def get(self, prefix: str, *, job: str = "") -> StoredConfiguration:
        """The configuration of the id ``prefix``, or whose digest begins so, of the job whose id begins with ``job``.

        Raises:
            StorageError: no configuration has it, more than one has it, or several jobs found it.
        """
        begins = ConfigurationRow.digest.startswith(prefix.lower(), autoescape=True)
        query = _query(job).where(or_(ConfigurationRow.id == prefix.lower(), begins))
        with self._reading() as session:
            rows = session.scalars(query.order_by(ConfigurationRow.digest, ConfigurationRow.result.desc())).all()
        digests = list(dict.fromkeys(row.digest for row in rows))
        only_match("configuration", prefix, digests, "see `autokv configs list`")
        jobs = list(dict.fromkeys(row.job_id for row in rows))
        if len(jobs) > 1:
            raise StorageError(
                f"configuration {digests[0][:12]} was found by the jobs {', '.join(jobs)}",
                remedy="its figures differ between them, so name one with --job",
            )
        return _stored(rows[0])

    def list(self, *, job: str = "") -> tuple[StoredConfiguration, ...]:
        """The configurations of every job's last result: the newest job first, the recommended one first in a job."""
        query = (
            _query(job)
            .where(_of_last_result())
            .join(JobRow, JobRow.id == ConfigurationRow.job_id)
            .order_by(JobRow.created_at.desc(), JobRow.id, ConfigurationRow.digest)
        )
        with self._reading() as session:
            found = [_stored(row) for row in session.scalars(query)]
        order = {one.job_id: place for place, one in reversed(list(enumerate(found)))}
        return tuple(sorted(found, key=lambda one: (order[one.job_id], "recommended" not in one.roles, one.roles)))

    def find(self, key: str) -> StoredConfiguration:
        """The configuration of this id, or the newest one of the only digest that begins so.

        Raises:
            NotFoundError: there is none, or several digests begin so.
        """
        with self._reading() as session:
            return _stored(row_of(session, key))

    def page(
        self,
        *,
        job: str | None = None,
        role: str | None = None,
        digest: str | None = None,
        model: str | None = None,
        cursor: Cursor = None,
        limit: int = 50,
    ) -> tuple[tuple[StoredConfiguration, ...], Cursor]:
        """Configurations of every job's last result, the newest first, and where the next page begins.

        ``model`` is what a job was asked for, or the model's own name.
        """
        query = select(ConfigurationRow).where(_of_last_result())
        if job is not None:
            query = query.where(ConfigurationRow.job_id == job)
        if role is not None:
            query = query.where(_has_role(role))
        if digest is not None:
            query = query.where(ConfigurationRow.digest == digest.lower())
        if model is not None:
            query = query.join(JobRow, JobRow.id == ConfigurationRow.job_id).where(_of_model(model))
        columns = (ConfigurationRow.created_at, ConfigurationRow.id)
        with self._reading() as session:
            rows, following = newest_first(session, query, columns, cursor, limit)
        return tuple(_stored(row) for (row,) in rows), following

    def recommended(
        self, *, model: str, hardware: Collection[str] = (), workload: Collection[str] = (), limit: int = 10
    ) -> tuple[Match, ...]:
        """What finished jobs recommend for a model, the nearest first: device, then workload, then the newest.

        Args:
            model: as for :meth:`page`.
            hardware: names of the device: ids of profiles, fingerprints, names.
            workload: names of the workload: ids of traces, names.
            limit: most matches.
        """
        measured = (JobRow.hardware[fact].as_string() for fact in ("fingerprint", "name"))
        device = _either(hardware, JobRow.profile, JobRow.request["hardware"].as_string(), *measured)
        asked, trace = JobRow.request["workload"].as_string(), JobRow.workload["trace"].as_string()
        traffic = _either(workload, JobRow.trace, asked, trace)
        query = (
            select(ConfigurationRow, JobRow.reason, device, traffic)
            .join(JobRow, JobRow.id == ConfigurationRow.job_id)
            .where(JobRow.state == "done", _of_last_result(), _has_role("recommended"), _of_model(model))
            .order_by(device.desc(), traffic.desc(), ConfigurationRow.created_at.desc(), ConfigurationRow.id)
            .limit(limit)
        )
        with self._reading() as session:
            return tuple(
                Match(_stored(row), bool(on_device), bool(on_traffic), reason or "")
                for row, reason, on_device, on_traffic in session.execute(query)
            )


def row_of(session: Session, key: str) -> ConfigurationRow:
    """The row of this id, or the newest one of the only digest that begins so.

    Raises:
        NotFoundError: there is none, or several digests begin so.
    """
    wanted = key.lower()
    row = session.scalar(select(ConfigurationRow).where(ConfigurationRow.id == wanted))
    if row is not None:
        return row
    begins = ConfigurationRow.digest.startswith(wanted, autoescape=True)
    query = select(ConfigurationRow.digest).where(begins).distinct().order_by(ConfigurationRow.digest)
    digests = session.scalars(query.limit(SHOWN + 1)).all()
    if len(wanted) < SHORTEST or not digests:
        raise NotFoundError(
            "there is no such configuration",
            field=f"configuration {key}",
            remedy=f"give an id, or {SHORTEST} or more characters of a digest",
        )
    if len(digests) > 1:
        several = ", ".join(digest[:12] for digest in digests[:SHOWN]) + (", …" if len(digests) > SHOWN else "")
        raise NotFoundError(
            f"could be {several}", field=f"configuration {key}", remedy="give more characters of the digest"
        )
    newest = (ConfigurationRow.created_at.desc(), ConfigurationRow.id.desc())
    return session.scalars(select(ConfigurationRow).where(begins).order_by(*newest).limit(1)).one()


def _query(job: str) -> Select[ConfigurationRow]:
    return select(ConfigurationRow).where(ConfigurationRow.job_id.startswith(job.lower(), autoescape=True))


def _of_last_result() -> ColumnElement[bool]:
    """A job that was resumed has a result for each time that it was run to an end; the last one counts."""
    other = aliased(ConfigurationRow)
    last = select(func.max(other.result)).where(other.job_id == ConfigurationRow.job_id).scalar_subquery()
    return ConfigurationRow.result == last


def _has_role(role: str) -> ColumnElement[bool]:
    return cast(ConfigurationRow.roles, Text).contains(f'"{role}"', autoescape=True)


def _of_model(name: str) -> ColumnElement[bool]:
    """What the job was asked for, or what the model calls itself."""
    known = select(ModelRow.fingerprint).where(ModelRow.facts["name"].as_string() == name)
    return or_(JobRow.request["model"].as_string() == name, JobRow.model.in_(known))


def _either(names: Collection[str], *columns: SQLColumnExpression[Any]) -> ColumnElement[int]:
    """1 where one of ``columns`` is one of ``names``, else 0."""
    wanted = list(names)
    return case((or_(*(column.in_(wanted) for column in columns)), 1), else_=0)


def _stored(row: ConfigurationRow) -> StoredConfiguration:
    document = ConfigurationDocument.parse(row.document, where=f"configuration {row.id}")
    return StoredConfiguration(row.id, row.digest, row.job_id, tuple(row.roles), document, row.created_at)
