"""Two databases, one behaviour: what every repository relies on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from autokv.errors import ConflictError, RequestError
from autokv.storage import Database
from autokv.storage.repository import now
from autokv.storage.service_tables import AliasRow, BlobChunkRow, BlobRow, HardwareProfileRow, UploadRow, WorkerRow
from autokv.storage.tables import Base, JobRow, KernelTimeRow, ModelRow, TrialRow
from autokv.tuning.request import TuningRequest

ONCE_PER_DATABASE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ANY_TEXT = st.text(max_size=12)
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.sampled_from(["\0", "a\0b", "\ud800", "\udfff\ud800", "größer", "\U0001f40c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
MOMENTS = st.datetimes(
    datetime(1970, 1, 2),
    datetime(2200, 1, 1),
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)

INCREMENT = """
import sys
from sqlalchemy import select
from autokv.storage import Database
from autokv.storage.tables import JobRow
with Database(sys.argv[1], create=False) as database:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(25):
        with database.writing() as session:
            row = session.scalars(select(JobRow).with_for_update()).one()
            row.attempts = row.attempts + 1
"""


def finds_nothing(database: Database, look: Callable[[Session], object]) -> bool:
    """A kind of database may refuse such a value, if it says so."""
    with suppress(RequestError), database.reading() as session:
        return not look(session)
    return True


class TestDatabaseContract:
    """Runs once on each kind."""

    @ONCE_PER_DATABASE
    @given(document=DOCUMENTS)
    @example(document={"deep": [[[[{"x": 2**70, "y": -(2**63), "z": 1e-320, "w": 0.1 + 0.2}]]]]})
    def test_documents_come_back_equal(self, database: Database, document: object) -> None:
        with database.writing() as session:
            session.execute(delete(ModelRow))
            session.add(ModelRow(fingerprint="f" * 64, facts={"it": document}))
        with database.reading() as session:
            (facts,) = session.scalars(select(ModelRow.facts))
        assert facts.keys() == {"it"}
        assert repr(facts["it"]) == repr(document)

    def test_no_document_is_null_and_not_a_document(self, database: Database, job_id: str) -> None:
        with database.reading() as session:
            assert session.scalars(select(JobRow.id).where(JobRow.workload.is_(None))).all() == [job_id]

    @ONCE_PER_DATABASE
    @given(line=st.text(max_size=20) | st.sampled_from(["\0", "a\0b", "\ud800'", "ünïcödé", "'; DROP TABLE jobs; --"]))
    def test_lines_come_back_readable(self, database: Database, line: str) -> None:
        with database.writing() as session:
            session.execute(delete(HardwareProfileRow))
            session.add(HardwareProfileRow(name=line, fingerprint="f" * 16, source="uploaded", profile={}))
        with database.reading() as session:
            (stored,) = session.scalars(select(HardwareProfileRow.name))
        assert stored == line.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")

    @ONCE_PER_DATABASE
    @given(moments=st.lists(MOMENTS, min_size=1, max_size=5, unique=True))
    def test_moments_come_back_exactly_and_in_order(self, database: Database, moments: list[datetime]) -> None:
        with database.writing() as session:
            session.execute(delete(KernelTimeRow))
            for place, moment in enumerate(moments):
                session.add(
                    KernelTimeRow(key="k", document={}, seconds=place, spread=float(place), runs=1, created_at=moment)
                )
        with database.reading() as session:
            stored = session.scalars(select(KernelTimeRow.created_at).order_by(KernelTimeRow.created_at)).all()
            behind = session.scalars(
                select(KernelTimeRow.created_at).where(KernelTimeRow.created_at >= moments[0])
            ).all()
            equal = session.scalars(select(func.count()).where(KernelTimeRow.created_at == moments[0])).one()
        assert stored == sorted(moments)
        assert sorted(behind) == sorted(moment for moment in moments if moment >= moments[0])
        assert all(moment.utcoffset() == timedelta(0) for moment in stored)
        assert equal == 1

    def test_a_moment_without_a_zone_is_a_mistake(self, database: Database) -> None:
        with pytest.raises(Exception, match="has no time zone"), database.writing() as session:
            session.execute(update(JobRow).values(started_at=datetime(2026, 1, 1)))

    def test_the_clock_is_the_databases_and_moves_within_a_transaction(self, database: Database) -> None:
        with database.writing() as session:
            first = now(session)
            assert first.utcoffset() == timedelta(0)
            assert abs(datetime.now(UTC) - first) < timedelta(minutes=5)
            while now(session) <= first:
                pass

    def test_bytes_and_sizes_come_back(self, database: Database) -> None:
        data = bytes(range(256)) * 4096
        with database.writing() as session:
            session.add(BlobRow(digest="a" * 64, size=2**40))
            session.flush()
            session.add(BlobChunkRow(digest="a" * 64, position=0, data=data))
        with database.reading() as session:
            assert session.scalars(select(BlobChunkRow.data)).one() == data
            assert session.scalars(select(BlobRow.size)).one() == 2**40
            assert session.scalars(select(func.length(BlobChunkRow.data))).one() == len(data)

    @pytest.mark.parametrize(
        "row",
        [
            UploadRow(kind="trace", name="x", digest="0" * 64, facts={}),
            UploadRow(kind="song", name="x", digest="f" * 64, facts={}),
            BlobRow(digest="f" * 64, size=1),
            BlobRow(digest="e" * 64),
            AliasRow(name="chat-prod", revision=1, configuration="ffffffffffff"),
            WorkerRow(host="h", process=1, device="cpu", labels={}, profile="f" * 12, versions={}, state="ready"),
            TrialRow(job_id="f" * 12, number=0, state="complete", params={}, source="x", seconds=0.1),
        ],
        ids=["reference", "choice", "twice", "missing", "no configuration", "no profile", "no job"],
    )
    def test_what_contradicts_is_refused_whole(self, database: Database, row: Base) -> None:
        values = {one.key: getattr(row, one.key) for one in inspect(type(row)).column_attrs}

        def write() -> None:
            with database.writing() as session:
                session.add(BlobRow(digest="d" * 64, size=1))
                session.flush()
                session.add(type(row)(**{name: value for name, value in values.items() if value is not None}))

        with database.writing() as session:
            session.add(BlobRow(digest="f" * 64, size=1))
        with pytest.raises(ConflictError, match="refused") as caught:
            write()
        assert isinstance(caught.value.__cause__, IntegrityError)
        with database.reading() as session:
            assert session.scalars(select(BlobRow.digest)).all() == ["f" * 64]

    def test_a_part_may_fail_without_the_whole(self, database: Database) -> None:
        with database.writing() as session:
            session.add(BlobRow(digest="a" * 64, size=1))
            session.flush()
            part = session.begin_nested()
            session.add(BlobRow(digest="b" * 64, size=1))
            session.flush()
            with pytest.raises(IntegrityError):
                session.execute(text("INSERT INTO blobs SELECT * FROM blobs"))
            part.rollback()
            session.add(BlobRow(digest="c" * 64, size=1))
        with database.reading() as session:
            assert session.scalars(select(BlobRow.digest).order_by(BlobRow.digest)).all() == ["a" * 64, "c" * 64]

    @pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
    def test_a_block_that_raises_writes_nothing(self, database: Database, end: type[BaseException]) -> None:
        def write() -> None:
            with database.writing() as session:
                session.add(BlobRow(digest="a" * 64, size=1))
                session.flush()
                raise end

        with pytest.raises(end):
            write()
        with database.reading() as session:
            assert session.scalars(select(BlobRow)).all() == []

    @pytest.mark.parametrize("value", [2**40, -(2**70)])
    def test_a_number_that_no_column_holds(self, database: Database, job_id: str, value: int) -> None:
        query = select(TrialRow).where(TrialRow.number == value)
        assert finds_nothing(database, lambda session: session.scalars(query).all())

    @pytest.mark.parametrize("value", ["\0", "a\0b", "\udc80"])
    def test_a_name_that_no_column_holds(self, database: Database, job_id: str, value: str) -> None:
        assert finds_nothing(database, lambda session: session.get(JobRow, value))

    def test_a_reader_sees_one_state_and_waits_for_nobody(self, database: Database, job_id: str) -> None:
        count = select(func.count()).select_from(JobRow)
        with database.reading() as reader:
            assert reader.scalar(count) == 1
            with database.writing() as writer:
                writer.execute(update(JobRow).values(attempts=7))
                assert reader.scalars(select(JobRow.attempts)).one() == 0
            database.queue.submit(TuningRequest(model="another"))
            assert reader.scalar(count) == 1
            assert reader.scalars(select(JobRow.attempts)).one() == 0
        with database.reading() as reader:
            assert reader.scalar(count) == 2

    def test_no_update_is_lost_between_threads(self, database: Database, job_id: str) -> None:
        gate = threading.Barrier(4)

        def increment(_: int) -> None:
            gate.wait()
            for _ in range(20):
                with database.writing() as session:
                    row = session.get(JobRow, job_id, with_for_update=True)
                    assert row is not None
                    row.attempts += 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(increment, range(4)))
        assert database.jobs.get(job_id).attempts == 80

    def test_no_update_is_lost_between_processes(self, url: str, database: Database, job_id: str) -> None:
        children = [
            subprocess.Popen(
                [sys.executable, "-c", INCREMENT, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        for child in children:
            child.communicate()
        assert [child.returncode for child in children] == [0, 0]
        assert database.jobs.get(job_id).attempts == 50

    def test_of_several_that_insert_one_key_one_wins(self, database: Database) -> None:
        gate = threading.Barrier(6)

        def insert(place: int) -> bool:
            gate.wait()
            try:
                with database.writing() as session:
                    session.add(BlobRow(digest="a" * 64, size=place))
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            won = list(pool.map(insert, range(6)))
        assert sum(won) == 1
        with database.reading() as session:
            assert session.scalars(select(BlobRow.size)).one() == won.index(True)

    def test_more_threads_than_connections_all_get_one(self, database: Database, job_id: str) -> None:
        with ThreadPoolExecutor(48) as pool:
            states = list(pool.map(lambda _: database.jobs.get(job_id).state, range(192)))
        assert states == ["queued"] * 192

    def test_a_healthy_database_is_found_healthy(self, database: Database, job_id: str) -> None:
        database.check_ready()
        assert [line for one in database.check() for line in one.problems] == []
