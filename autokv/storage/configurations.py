"""Configurations to download."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, select

from autokv.config import ConfigurationDocument
from autokv.errors import StorageError
from autokv.storage.lookup import only_match
from autokv.storage.sessions import Sessions
from autokv.storage.tables import ConfigurationRow, JobRow


@dataclass(frozen=True)
class StoredConfiguration:
    """A configuration that a job found, and what it is there."""

    digest: str
    job_id: str
    roles: tuple[str, ...]
    document: ConfigurationDocument
    created: datetime


class Configurations:
    """The repository of configurations; rows come with a job's result and never change."""

    def __init__(self, reading: Sessions) -> None:
        self._reading = reading

    def get(self, prefix: str, *, job: str = "") -> StoredConfiguration:
        """The configuration whose digest begins with ``prefix``, of the job whose id begins with ``job``.

        Raises:
            StorageError: no configuration has it, more than one has it, or several jobs found it.
        """
        query = _query(job).where(ConfigurationRow.digest.startswith(prefix.lower(), autoescape=True))
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
        newest = (
            select(ConfigurationRow.job_id, func.max(ConfigurationRow.result).label("result"))
            .group_by(ConfigurationRow.job_id)
            .subquery()
        )
        query = (
            _query(job)
            .join(
                newest,
                (newest.c.job_id == ConfigurationRow.job_id) & (newest.c.result == ConfigurationRow.result),
            )
            .join(JobRow, JobRow.id == ConfigurationRow.job_id)
            .order_by(JobRow.created_at.desc(), JobRow.id, ConfigurationRow.digest)
        )
        with self._reading() as session:
            found = [_stored(row) for row in session.scalars(query)]
        order = {one.job_id: place for place, one in reversed(list(enumerate(found)))}
        return tuple(sorted(found, key=lambda one: (order[one.job_id], "recommended" not in one.roles, one.roles)))


def _query(job: str) -> Select[ConfigurationRow]:
    return select(ConfigurationRow).where(ConfigurationRow.job_id.startswith(job.lower(), autoescape=True))


def _stored(row: ConfigurationRow) -> StoredConfiguration:
    document = ConfigurationDocument.model_validate(row.document)
    return StoredConfiguration(row.digest, row.job_id, tuple(row.roles), document, row.created_at)
