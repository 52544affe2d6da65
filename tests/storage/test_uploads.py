"""Uploads: bytes stored once, whole, and for as long as something needs them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from autokv.errors import ConflictError, NotFoundError, StorageError
from autokv.storage import Database
from autokv.storage.service_tables import BlobChunkRow, BlobRow, UploadRow
from autokv.storage.uploads import CHUNK_BYTES
from autokv.tuning.request import TuningRequest
from autokv.wire import UploadView

FACTS = {"format": "azure", "requests": 3, "requests_per_s": None}


def counts(database: Database) -> tuple[int, int, int]:
    """Rows of uploads, blobs and pieces."""
    with database.reading() as session:
        uploads, blobs, chunks = (
            session.scalar(select(func.count()).select_from(table)) for table in (UploadRow, BlobRow, BlobChunkRow)
        )
    return uploads or 0, blobs or 0, chunks or 0


def content(database: Database, upload_id: str) -> bytes:
    return b"".join(database.uploads.chunks(upload_id))


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_bytes_come_back_in_pieces_of_one_size(database: Database, size: int) -> None:
    data = hashlib.shake_256(b"seed").digest(size)
    upload, new = database.uploads.add(
        "trace", "a.csv", (data[at : at + 999_983] for at in range(0, size, 999_983)), {}
    )
    assert new
    assert (upload.size_bytes, upload.digest) == (size, hashlib.sha256(data).hexdigest())
    pieces = list(database.uploads.chunks(upload.id))
    assert b"".join(pieces) == data
    assert {len(piece) for piece in pieces[:-1]} <= {CHUNK_BYTES}
    assert len(pieces) == -(-size // CHUNK_BYTES)


def test_equal_bytes_of_one_kind_and_name_are_one_upload(database: Database) -> None:
    first, new = database.uploads.add("trace", "a.csv", [b"one", b"two"], FACTS)
    again, added = database.uploads.add("trace", "a.csv", [b"onetwo"], {"other": 1})
    assert (new, added) == (True, False)
    assert again == first == database.uploads.get(first.id)
    assert first.facts == FACTS
    other_name, _ = database.uploads.add("trace", "b.csv", [b"onetwo"], FACTS)
    other_kind, _ = database.uploads.add("prompts", "a.csv", [b"onetwo"], FACTS)
    assert len({first.id, other_name.id, other_kind.id}) == 3
    assert counts(database) == (3, 1, 1)


def test_the_bytes_go_with_the_last_upload_that_has_them(database: Database) -> None:
    first, _ = database.uploads.add("trace", "a.csv", [b"bytes"], {})
    second, _ = database.uploads.add("trace", "b.csv", [b"bytes"], {})
    database.uploads.delete(first.id)
    assert content(database, second.id) == b"bytes"
    database.uploads.delete(second.id)
    assert counts(database) == (0, 0, 0)
    for call in (database.uploads.get, database.uploads.delete, database.uploads.chunks):
        with pytest.raises(NotFoundError, match=f"upload {second.id}: there is no such upload"):
            call(second.id)


@pytest.mark.parametrize("field", ["trace", "prompts"])
def test_what_a_job_uses_stays(database: Database, field: str) -> None:
    upload, _ = database.uploads.add("trace", "a.csv", [b"bytes"], {})
    job, _ = database.queue.submit(TuningRequest(model="m"), submission={}, selector="{}", **{field: upload.id})
    with pytest.raises(ConflictError, match=f"upload {upload.id}: is used by job {job.id}; delete the job first"):
        database.uploads.delete(upload.id)
    assert content(database, upload.id) == b"bytes"


def test_a_source_that_fails_leaves_nothing(database: Database) -> None:
    def source() -> Iterator[bytes]:
        yield b"x" * (2 * CHUNK_BYTES)
        raise OSError("the disk has failed")

    with pytest.raises(OSError, match="the disk has failed"):
        database.uploads.add("trace", "a.csv", source(), {})
    assert counts(database) == (0, 0, 0)


def test_bytes_that_are_deleted_while_they_are_read_are_an_error_and_never_short(database: Database) -> None:
    upload, _ = database.uploads.add("trace", "a.csv", [b"x" * (2 * CHUNK_BYTES)], {})
    reading = database.uploads.chunks(upload.id)
    next(reading)
    database.uploads.delete(upload.id)
    with pytest.raises(StorageError, match="was deleted while it was read"):
        next(reading)


def test_many_at_once_store_the_same_bytes_once(database: Database) -> None:
    barrier = threading.Barrier(8)

    def add(_: int) -> tuple[str, bool]:
        barrier.wait()
        upload, new = database.uploads.add("trace", "a.csv", [b"the same" * 1000], {})
        return upload.id, new

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(add, range(8)))
    assert len({upload for upload, _ in found}) == 1
    assert [new for _, new in found].count(True) == 1
    assert counts(database) == (1, 1, 1)


def test_storing_and_deleting_the_same_bytes_at_once_loses_nothing(database: Database) -> None:
    """Whatever the order, each upload that is listed has its bytes, and no bytes are left without one."""
    barrier = threading.Barrier(4)

    def work(name: int) -> None:
        barrier.wait()
        for _ in range(8):
            upload, new = database.uploads.add("trace", f"{name}.csv", [b"the same"], {})
            assert new
            assert content(database, upload.id) == b"the same"
            database.uploads.delete(upload.id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert counts(database) == (0, 0, 0)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 7), limit=st.integers(1, 4))
def test_pages_have_every_upload_of_a_kind_once_the_newest_first(database: Database, number: int, limit: int) -> None:
    for index in range(number):
        database.uploads.add("trace", f"{index}.csv", [b"a trace"], {})
        database.uploads.add("prompts", f"{index}.jsonl", [b"prompts"], {})
    shown: list[UploadView] = []
    cursor, pages = None, 0
    while True:
        page, cursor = database.uploads.page("trace", cursor, limit)
        shown += page
        pages += 1
        assert len(page) <= limit
        if cursor is None:
            break
    everything, _ = database.uploads.page("trace", None, 200)
    assert shown == list(everything)
    assert {one.kind for one in shown} <= {"trace"}
    assert shown == sorted(shown, key=lambda one: (one.created, one.id), reverse=True)
    assert pages == max(1, -(-len(shown) // limit))
