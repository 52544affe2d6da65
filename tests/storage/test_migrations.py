"""The schema: what the migrations make is what the tables say, on every way to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text

from autokv.errors import NotFoundError, StorageError
from autokv.storage import Database
from autokv.storage.engine import parse
from autokv.storage.schema import VERSION_TABLE
from autokv.storage.tables import Base


@pytest.fixture
def raw(url: str) -> Iterator[Engine]:
    """The database behind the back of AutoKV."""
    parsed, _ = parse(url)
    if parsed.get_backend_name() == "sqlite":
        Path(str(parsed.database)).parent.mkdir()
    engine = create_engine(parsed)
    yield engine
    engine.dispose()


def test_the_migrations_make_the_tables(database: Database) -> None:
    with database._engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrations_make_the_constraints(database: Database, request: pytest.FixtureRequest) -> None:
    """Alembic compares no CHECK constraints."""
    kind = database._engine.dialect.name
    with ExitStack() as stack:
        other = stack.enter_context(
            Database(f"sqlite:///{request.getfixturevalue('tmp_path') / 'direct.db'}")
            if kind == "sqlite"
            else Database(request.getfixturevalue("another_postgresql_url"))
        )
        with other._engine.begin() as connection:
            Base.metadata.drop_all(connection)
            Base.metadata.create_all(connection)
        migrated, wanted = inspect(database._engine), inspect(other._engine)
        for table in Base.metadata.tables:
            for what in ("get_check_constraints", "get_foreign_keys", "get_pk_constraint", "get_indexes"):
                found, expected = getattr(migrated, what)(table), getattr(wanted, what)(table)
                assert sorted(map(str, found)) == sorted(map(str, expected)), (table, what)


def test_a_newer_database_is_refused_and_untouched(url: str) -> None:
    with Database(url) as database:
        engine = database._engine
        with engine.begin() as connection:
            connection.execute(text("UPDATE autokv_version SET version_num = '9999'"))
        for upgrade in (True, False):
            with pytest.raises(StorageError, match=r"written by a newer AutoKV \(schema 9999\); upgrade autokv"):
                Database(url, upgrade=upgrade)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT version_num FROM autokv_version")).all() == [("9999",)]


def test_another_programs_database_is_refused_and_untouched(raw: Engine, url: str) -> None:
    with raw.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (x integer)"))
    with pytest.raises(StorageError, match="tables of another program"):
        Database(url)
    assert inspect(raw).get_table_names() == ["theirs"]


def test_an_empty_database_is_filled_only_on_request(raw: Engine, url: str) -> None:
    with raw.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (x integer)"))
        connection.execute(text("DROP TABLE theirs"))
    with pytest.raises(NotFoundError, match="the database is empty; check --database"):
        Database(url, create=False)
    with pytest.raises(StorageError, match="the database is empty; run `autokv db upgrade`"):
        Database(url, upgrade=False)
    assert inspect(raw).get_table_names() == []


def test_a_migration_that_fails_leaves_nothing(raw: Engine, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic.operations import Operations

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "create_index", fail)
        with pytest.raises(RuntimeError):
            Database(url)
    assert inspect(raw).get_table_names() == []
    with Database(url) as database:
        assert database.jobs.list() == ()


OPEN_AND_ADD = """
import sys
from autokv.storage import Database
from autokv.tuning.request import TuningRequest
print("ready", flush=True)
sys.stdin.readline()
with Database(sys.argv[1]) as database:
    for _ in range(5):
        print(database.queue.submit(TuningRequest(model="tiny"))[0].id, flush=True)
"""


def test_processes_may_open_a_new_database_at_once(url: str) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_ADD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
    made = [line for child in children for line in child.communicate()[0].split()]
    assert [child.returncode for child in children] == [0, 0]
    with Database(url, create=False) as database:
        assert sorted(job.id for job in database.jobs.list()) == sorted(made)
    assert len(made) == 10
