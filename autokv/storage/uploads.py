"""Uploaded traces and files of prompts: names for bytes, which are stored once however often they come."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from sqlalchemy import delete, insert, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from autokv.errors import ConflictError, NotFoundError, StorageError
from autokv.storage.repository import Cursor, Repository, newest_first
from autokv.storage.service_tables import BlobChunkRow, BlobRow, UploadRow
from autokv.storage.tables import JobRow
from autokv.wire import UploadKind, UploadView

CHUNK_BYTES = 1 << 20
"""Bytes of a stored piece; the last of a file may have fewer."""


class Uploads(Repository):
    """The repository of uploads."""

    def add(
        self, kind: UploadKind, name: str, chunks: Iterable[bytes], facts: Mapping[str, Any]
    ) -> tuple[UploadView, bool]:
        """Store a file, all or nothing, and say whether it is new: equal bytes of one kind and name are one upload.

        Nothing is locked while ``chunks`` are read; they go to a temporary file first.
        """
        with tempfile.TemporaryFile() as spool:
            digest, size = _spool(chunks, spool)
            with self._writing() as session:
                _store(session, digest, size, spool)
                same = (UploadRow.kind == kind, UploadRow.name == name, UploadRow.digest == digest)
                found = session.scalars(select(UploadRow).where(*same).order_by(UploadRow.created).limit(1)).first()
                row = found or UploadRow(kind=kind, name=name, digest=digest, facts=dict(facts))
                session.add(row)
                session.flush()
                return UploadView.model_validate(row), found is None

    def get(self, upload_id: str) -> UploadView:
        """The upload of this id.

        Raises:
            NotFoundError: there is none.
        """
        with self._reading() as session:
            row = session.get(UploadRow, upload_id)
            if row is None:
                raise _missing(upload_id)
            return UploadView.model_validate(row)

    def page(self, kind: UploadKind, cursor: Cursor = None, limit: int = 50) -> tuple[tuple[UploadView, ...], Cursor]:
        """Uploads of a kind, the newest first, and where the next page begins."""
        query, columns = select(UploadRow).where(UploadRow.kind == kind), (UploadRow.created, UploadRow.id)
        with self._reading() as session:
            rows, following = newest_first(session, query, columns, cursor, limit)
        return tuple(UploadView.model_validate(row) for (row,) in rows), following

    def chunks(self, upload_id: str) -> Iterator[bytes]:
        """The bytes of an upload, in order. No lock is held between two pieces.

        Raises:
            NotFoundError: there is no such upload.
            StorageError: it was deleted while it was read.
        """
        return self._chunks(self.get(upload_id))

    def _chunks(self, upload: UploadView) -> Iterator[bytes]:
        for position in range(-(-upload.size_bytes // CHUNK_BYTES)):
            with self._reading() as session:
                data = session.scalars(
                    select(BlobChunkRow.data).where(
                        BlobChunkRow.digest == upload.digest, BlobChunkRow.position == position
                    )
                ).first()
            if data is None:
                raise StorageError("was deleted while it was read", field=f"upload {upload.id}")
            yield data

    def delete(self, upload_id: str) -> None:
        """Delete an upload, and its bytes with the last upload that has them.

        Raises:
            NotFoundError: there is no such upload.
            ConflictError: a job uses it.
        """
        with self._writing() as session:
            digest = session.scalars(select(UploadRow.digest).where(UploadRow.id == upload_id)).first()
            if digest is None:
                raise _missing(upload_id)
            # The blob first, as when a file is stored, so that the two never wait for one another.
            _hold(session, digest)
            row = session.get(UploadRow, upload_id, with_for_update=True)
            if row is None:
                raise _missing(upload_id)
            uses = or_(JobRow.trace == upload_id, JobRow.prompts == upload_id)
            job = session.scalars(select(JobRow.id).where(uses).order_by(JobRow.created_at).limit(1)).first()
            if job is not None:
                raise ConflictError(f"is used by job {job}", field=f"upload {upload_id}", remedy="delete the job first")
            session.delete(row)
            session.flush()
            if session.scalars(select(UploadRow.id).where(UploadRow.digest == digest).limit(1)).first() is None:
                session.execute(delete(BlobChunkRow).where(BlobChunkRow.digest == digest))
                session.execute(delete(BlobRow).where(BlobRow.digest == digest))


def _spool(chunks: Iterable[bytes], spool: IO[bytes]) -> tuple[str, int]:
    """Write the bytes to ``spool``; their digest and number."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        spool.write(chunk)
    return digest.hexdigest(), size


def _store(session: Session, digest: str, size: int, spool: IO[bytes]) -> None:
    """Store the bytes unless they are there, and hold the row of their digest until the transaction ends.

    Of two transactions that store the same bytes, one waits here for the other.
    """
    while not _hold(session, digest):
        try:
            with session.begin_nested():
                session.execute(insert(BlobRow).values(digest=digest, size=size))
        except IntegrityError:
            continue
        spool.seek(0)
        for position, data in enumerate(iter(lambda: spool.read(CHUNK_BYTES), b"")):
            session.execute(insert(BlobChunkRow).values(digest=digest, position=position, data=data))
        return


def _hold(session: Session, digest: str) -> bool:
    """Lock the row of a blob; whether there is one."""
    return session.scalars(select(BlobRow.digest).where(BlobRow.digest == digest).with_for_update()).first() is not None


def _missing(upload_id: str) -> NotFoundError:
    return NotFoundError("there is no such upload", field=f"upload {upload_id}", remedy="see the list of uploads")
