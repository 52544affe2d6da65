"""``Database.check`` finds what contradicts itself, and nothing in a healthy database; a copy is the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from autokv.errors import ConflictError, StorageError
from autokv.storage import Database
from autokv.storage.maintenance import backup
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import TrialRecord


def problems(database: Database) -> list[str]:
    return [line for one in database.check() for line in one.problems]


def alter(database: Database, *statements: str) -> None:
    """Past the constraints that can be switched off."""
    with database._engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("PRAGMA foreign_keys=OFF")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()
        connection.invalidate()


def insert_blob(digest: str, size: int) -> str:
    return f"INSERT INTO blobs VALUES ('{digest}', {size}, '2026-11-22 10:00:00+00')"  # noqa: S608


DAMAGE = {
    "DELETE FROM measurements": "3 rows of samples (measurement_id) refer to rows of measurements that are gone",
    "DELETE FROM jobs": "1 rows of trials (job_id) refer to rows of jobs that are gone",
    "UPDATE jobs SET owner = 'me'": "is queued and has an owner",
    "UPDATE jobs SET state = 'running'": "is running and has no owner",
    "UPDATE jobs SET request = '{}'": "has a request that cannot be read (Field required)",
    "UPDATE jobs SET last_event = 7": "counts 7 events and has ",
    insert_blob("a" * 64, 0): "the bytes aaaaaaaaaaaa belong to no upload",
    insert_blob("b" * 64, 3): "the bytes bbbbbbbbbbbb are not whole",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_it_finds(damage: str, database: Database, job_id: str, record: Callable[..., TrialRecord]) -> None:
    database.trials.add(job_id, record(0))
    assert problems(database) == []
    alter(database, damage)
    assert any(DAMAGE[damage] in line for line in problems(database))


def test_it_finds_damage_in_the_file(sqlite_url: str) -> None:
    with Database(sqlite_url) as database:
        for _ in range(40):
            database.queue.submit(TuningRequest(model="tiny"))
        with database._engine.connect() as connection:
            root = "SELECT rootpage FROM sqlite_master WHERE name LIKE 'ix_jobs_state%'"
            page = connection.exec_driver_sql(root).scalar_one()
            size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    content = bytearray(file.read_bytes())
    index = content[(page - 1) * size : page * size]
    # The last of the index's entries is given another state, as a flipped bit does.
    index[index.rindex(b"queued")] ^= 1
    content[(page - 1) * size : page * size] = index
    file.write_bytes(bytes(content))
    with Database(sqlite_url, upgrade=False) as damaged:
        assert any("ix_jobs_state" in line for line in problems(damaged))


def test_many_problems_are_counted(database: Database) -> None:
    alter(database, *(insert_blob(f"{index:064}", 0) for index in range(14)))
    assert problems(database)[10:] == ["and 4 more"]


class TestBackup:
    def test_of_sqlite_is_the_database(
        self, sqlite_url: str, tmp_path: Path, record: Callable[..., TrialRecord]
    ) -> None:
        target = tmp_path / "copies" / "copy.db"
        with Database(sqlite_url) as database:
            job = database.queue.submit(TuningRequest(model="tiny"))[0].id
            database.trials.add(job, record(0))
            with database.writing() as session:
                session.execute(text("UPDATE jobs SET attempts = 7"))
                session.flush()
                assert backup(sqlite_url, target) == target.stat().st_size
            database.trials.add(job, record(1))
        assert [path.name for path in target.parent.iterdir()] == ["copy.db"]
        with Database(f"sqlite:///{target}", upgrade=False) as copy:
            assert copy.trials.of(job) == [record(0)]
            assert copy.jobs.get(job).attempts == 0
            assert problems(copy) == []

    def test_an_older_schema_is_copied_as_it_is(self, sqlite_url: str, tmp_path: Path) -> None:
        Database(sqlite_url).close()
        file = Path(sqlite_url.removeprefix("sqlite:///"))
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE autokv_version SET version_num = '0000'")
        backup(sqlite_url, tmp_path / "copy.db")
        with sqlite3.connect(tmp_path / "copy.db") as connection:
            assert connection.execute("SELECT version_num FROM autokv_version").fetchall() == [("0000",)]

    def test_nothing_is_overwritten_or_left(self, sqlite_url: str, tmp_path: Path) -> None:
        target = tmp_path / "copy.db"
        with pytest.raises(StorageError, match="there is no such database"):
            backup(sqlite_url, target)
        assert not target.exists()
        Database(sqlite_url).close()
        target.write_text("mine")
        with pytest.raises(ConflictError, match="is there already; name another file"):
            backup(sqlite_url, target)
        assert target.read_text() == "mine"
        with pytest.raises(StorageError, match="cannot be written"):
            backup(sqlite_url, target / "below.db")
        assert {path.name for path in tmp_path.iterdir()} == {"copy.db", "runs"}
