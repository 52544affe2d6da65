"""The schema: what the migrations make is what the tables say, on every way to it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from autokv.errors import StorageError
from autokv.storage import Database
from autokv.storage.schema import VERSION_TABLE
from autokv.storage.tables import Base


def test_the_migrations_make_the_tables(url: str) -> None:
    Database(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrations_make_the_constraints(url: str) -> None:
    """Alembic compares no CHECK constraints."""
    Database(url).close()
    migrated, direct = inspect(create_engine(url)), create_engine("sqlite://")
    Base.metadata.create_all(direct)
    wanted = inspect(direct)
    for table in Base.metadata.tables:
        for kind in ("get_check_constraints", "get_foreign_keys", "get_pk_constraint", "get_indexes"):
            found, expected = getattr(migrated, kind)(table), getattr(wanted, kind)(table)
            assert sorted(map(str, found)) == sorted(map(str, expected)), (table, kind)


def test_the_tables_can_be_made_on_postgresql() -> None:
    for table in Base.metadata.sorted_tables:
        statement = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        assert f"CREATE TABLE {table.name}" in statement
        assert "DATETIME" not in statement


def test_a_newer_database_is_refused_and_untouched(url: str, tmp_path: Path) -> None:
    Database(url).close()
    file = tmp_path / "runs" / "autokv.db"
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE autokv_version SET version_num = '9999'")
    with pytest.raises(StorageError, match=r"written by a newer AutoKV \(schema 9999\); upgrade autokv"):
        Database(url)
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT version_num FROM autokv_version").fetchall() == [("9999",)]


def test_another_programs_database_is_refused_and_untouched(url: str, tmp_path: Path) -> None:
    file = tmp_path / "runs" / "autokv.db"
    file.parent.mkdir()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StorageError, match="tables of another program"):
        Database(url)
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_migration_that_fails_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic.operations import Operations

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "create_index", fail)
        with pytest.raises(RuntimeError):
            Database(url)
    assert inspect(create_engine(url)).get_table_names() == []
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
        print(database.jobs.create(TuningRequest(model="tiny")), flush=True)
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
