"""Looking after a database: checking that it is whole and agrees with itself, and copying it while others use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Connection, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from autokv.config import ConfigurationDocument
from autokv.errors import AutoKVError, ConflictError
from autokv.files import replacing
from autokv.storage.backend import Backend
from autokv.storage.engine import parse, shown, translated
from autokv.storage.service_tables import AliasMoveRow, AliasRow, AttemptRow, BlobChunkRow, BlobRow, EventRow, UploadRow
from autokv.storage.tables import Base, ConfigurationRow, JobRow, ResultRow, TrialRow
from autokv.tuning.request import TuningRequest

SHOWN = 10
"""Problems that one check names; the rest is counted."""


@dataclass(frozen=True)
class Check:
    """Something that was looked at, and what is wrong with it, a line each."""

    name: str
    problems: tuple[str, ...]


def check(session: Session, backend: Backend) -> tuple[Check, ...]:
    """Look at everything; changes nothing."""
    connection = session.connection()
    found: dict[str, Iterator[str]] = {
        "file and indexes": iter(backend.problems(connection)),
        "references": _references(connection),
        **{name: look(session) for name, look in _LOOKS.items()},
    }
    return tuple(Check(name, _first(problems)) for name, problems in found.items())


def _first(problems: Iterator[str]) -> tuple[str, ...]:
    every = list(problems)
    rest = len(every) - SHOWN
    return (*every[:SHOWN], f"and {rest} more") if rest > 0 else tuple(every)


def _references(connection: Connection) -> Iterator[str]:
    """Foreign keys, looked up row by row: a database whose enforcement was off says nothing by itself."""
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_key_constraints:
            target = key.referred_table.alias("target")
            pairs = [(element.parent, target.c[element.column.name]) for element in key.elements]
            there = exists().where(and_(*(column == referred for column, referred in pairs)))
            whole = and_(*(column.is_not(None) for column, _ in pairs))
            missing = connection.scalar(select(func.count()).select_from(table).where(whole, ~there)) or 0
            if missing:
                columns = ", ".join(column.name for column, _ in pairs)
                gone = f"refer to rows of {key.referred_table.name} that are gone"
                yield f"{missing} rows of {table.name} ({columns}) {gone}"


def _jobs(session: Session) -> Iterator[str]:
    query = select(JobRow.id, JobRow.state, JobRow.owner, JobRow.request).order_by(JobRow.id)
    for job_id, state, owner, request in session.execute(query).yield_per(100):
        if (state == "running") != (owner is not None):
            yield f"job {job_id} is {state} and has {'an' if owner else 'no'} owner"
        try:
            TuningRequest.model_validate(request)
        except ValidationError as error:
            yield f"job {job_id} has a request that cannot be read ({error.errors()[0]['msg']})"


def _attempts(session: Session) -> Iterator[str]:
    open_ones = select(AttemptRow.job_id, AttemptRow.number).join(JobRow).where(AttemptRow.outcome.is_(None))
    for job_id, number in session.execute(open_ones.where(JobRow.state != "running")):
        yield f"attempt {number} of job {job_id} has not ended, but the job does not run"
    going = exists().where(AttemptRow.job_id == JobRow.id, AttemptRow.outcome.is_(None))
    # The command line of earlier versions ran its jobs without a worker.
    running = (JobRow.state == "running", or_(~JobRow.local, JobRow.worker.is_not(None)))
    for job_id in session.scalars(select(JobRow.id).where(*running, ~going)):
        yield f"job {job_id} runs without an attempt"


def _events(session: Session) -> Iterator[str]:
    count, last = func.count(EventRow.number), func.max(EventRow.number)
    query = (
        select(JobRow.id, JobRow.last_event, count, last)
        .outerjoin(EventRow)
        .group_by(JobRow.id, JobRow.last_event)
        .having(or_(count != JobRow.last_event, func.coalesce(last, 0) != JobRow.last_event))
    )
    for job_id, counted, stored, newest in session.execute(query):
        yield f"job {job_id} counts {counted} events and has {stored}, up to {newest or 0}"


def _results(session: Session) -> Iterator[str]:
    stored = select(func.count()).where(TrialRow.job_id == ResultRow.job_id).scalar_subquery()
    query = select(ResultRow.job_id, ResultRow.trials, stored).where(ResultRow.trials > stored)
    for job_id, counted, found in session.execute(query):
        yield f"a result of job {job_id} is of {counted} trials, {found} are stored"


def _configurations(session: Session) -> Iterator[str]:
    query = select(ConfigurationRow.id, ConfigurationRow.digest, ConfigurationRow.document)
    for name, digest, document in session.execute(query).yield_per(100):
        try:
            found = ConfigurationDocument.parse(document).digest
        except AutoKVError as error:
            yield f"configuration {name} cannot be read ({error})"
        else:
            if found != digest:
                yield f"configuration {name} is not what its digest {digest[:12]} says"


def _aliases(session: Session) -> Iterator[str]:
    later = aliased(AliasMoveRow)
    newest = select(func.max(later.revision)).where(later.alias == AliasRow.name).correlate(AliasRow).scalar_subquery()
    agrees = exists().where(
        AliasMoveRow.alias == AliasRow.name,
        AliasMoveRow.revision == AliasRow.revision,
        AliasMoveRow.configuration == AliasRow.configuration,
    )
    for name in session.scalars(select(AliasRow.name).where(or_(newest != AliasRow.revision, ~agrees))):
        yield f"alias {name} is not where its last move left it"


def _files(session: Session) -> Iterator[str]:
    used = exists().where(UploadRow.digest == BlobRow.digest)
    for digest in session.scalars(select(BlobRow.digest).where(~used)):
        yield f"the bytes {digest[:12]} belong to no upload"
    size = func.coalesce(func.sum(func.length(BlobChunkRow.data)), 0)
    chunks, last = func.count(BlobChunkRow.position), func.max(BlobChunkRow.position)
    query = (
        select(BlobRow.digest)
        .outerjoin(BlobChunkRow)
        .group_by(BlobRow.digest, BlobRow.size)
        .having(or_(size != BlobRow.size, func.coalesce(last, -1) != chunks - 1))
    )
    for digest in session.scalars(query):
        yield f"the bytes {digest[:12]} are not whole"


_LOOKS: dict[str, Callable[[Session], Iterator[str]]] = {
    "jobs": _jobs,
    "attempts": _attempts,
    "events": _events,
    "results": _results,
    "configurations": _configurations,
    "aliases": _aliases,
    "files": _files,
}


def backup(url: str, target: Path) -> int:
    """Copy the database of any schema, as it is at one moment, to the new file ``target``; returns its size in bytes.

    SQLite's copy is a database, PostgreSQL's a dump for ``pg_restore``.

    Raises:
        ConflictError: the file is there already.
        UnavailableError: the database cannot be reached now.
        StorageError: there is no such database, or it cannot be copied; no file is left.
    """
    target = target.expanduser()
    if target.exists():
        raise ConflictError("is there already", field=str(target), remedy="name another file")
    parsed, backend = parse(url)
    engine = backend.open_engine(parsed, shown(url), create=False)
    try:
        with replacing(target) as temporary, translated(parsed, backend, shown(url)):
            backend.backup(engine, parsed, temporary)
        return target.stat().st_size
    finally:
        engine.dispose()
