"""SQLite: everything that only it understands."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.compiler import compiles

from autokv.errors import ConflictError, StorageError, UnavailableError
from autokv.storage.backend import WRITES, Trouble
from autokv.storage.columns import database_now

BUSY_SECONDS = 30
"""How long a connection waits for another process to finish writing."""
CONNECTIONS = 20
"""Open at once in one process; a further reader or writer waits ``WAIT_SECONDS`` for one."""
WAIT_SECONDS = 30

EXAMPLE_URL = "sqlite:///autokv.db"


@compiles(database_now, "sqlite")
def _timestamp(*_: object, **__: object) -> str:
    """UTC to the millisecond, spelled with the six digits that SQLAlchemy writes (CURRENT_TIMESTAMP has seconds)."""
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def open_engine(url: URL, shown: str, *, create: bool) -> Engine:
    """See :class:`autokv.storage.backend.Backend`; ``create`` makes the file's folder too."""
    if not url.database or url.database.startswith((":", "file:")) or url.query or url.host:
        raise StorageError(
            "does not name a plain file, so nothing would be kept", field=shown, remedy=f"write it as in {EXAMPLE_URL}"
        )
    path = Path(url.database).expanduser()
    try:
        if path.is_dir():
            raise StorageError("is a folder", field=shown, remedy=f"name a file in it, as in {EXAMPLE_URL}")
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise StorageError(
                "there is no such database", field=shown, remedy="check --database, or tune a model first"
            )
    except OSError as error:
        raise StorageError(f"cannot be opened ({error.strerror})", field=shown, remedy="check the path") from None
    engine = create_engine(
        url.set(database=str(path)),
        connect_args={"timeout": BUSY_SECONDS},
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
    )
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def reading(engine: Engine) -> Engine:
    """A deferred transaction reads the state that its first query saw."""
    return engine


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """A transaction that may alter a table that others refer to: by copying it, while no references are enforced."""
    with engine.execution_options(**{WRITES: True}).connect() as connection:
        driver = _driver(connection)
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                if connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise StorageError("has rows that refer to missing ones", remedy="restore a copy of it")
        finally:
            driver.execute("PRAGMA foreign_keys=ON")


def problems(connection: Connection) -> list[str]:
    """What the integrity check finds in the file."""
    found = [str(line) for (line,) in connection.exec_driver_sql("PRAGMA integrity_check(10)")]
    return [] if found == ["ok"] else found


def backup(engine: Engine, url: URL, target: Path) -> None:
    """A copy of the whole file with all that was committed; others may read and write meanwhile."""
    with engine.connect() as connection, closing(sqlite3.connect(target)) as copy:
        try:
            _driver(connection).backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            damage = copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
        except sqlite3.Error as error:
            raise StorageError(f"cannot be copied ({error})", field=str(url), remedy="check both disks") from None
        if damage:
            raise StorageError("is damaged", field=str(url), remedy="restore an earlier copy")


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("not a connection to SQLite")
    return driver


def _on_connect(connection: sqlite3.Connection, _: object) -> None:
    """Transactions begin where :func:`_on_begin` says, never where the driver guesses."""
    connection.isolation_level = None
    _use_wal(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Writers do not block readers. Changing the mode of a new file does not honour the busy timeout, so wait here."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


_LOCKED = Trouble("the database is locked by another process", "wait for it, or stop it", UnavailableError)
_TROUBLES: dict[int, Trouble] = {
    sqlite3.SQLITE_FULL: Trouble(
        "the disk is full; what was stored before is untouched",
        "free some space, or name another place with --database",
        UnavailableError,
    ),
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_NOTADB: Trouble("the file is not an SQLite database", "name another file with --database"),
    sqlite3.SQLITE_CORRUPT: Trouble("the database is damaged", "restore a copy, or name another file with --database"),
    sqlite3.SQLITE_READONLY: Trouble(
        "the database cannot be written", "check the rights of the file and of its folder"
    ),
    sqlite3.SQLITE_CANTOPEN: Trouble("the database cannot be opened", "check the path and the rights of its folder"),
    sqlite3.SQLITE_IOERR: Trouble(
        "the disk failed or is full; what was stored before is untouched", "check the disk", UnavailableError
    ),
    sqlite3.SQLITE_CONSTRAINT: Trouble(
        "the database refused what contradicts what it holds", "look at the job with `jobs show`", ConflictError
    ),
}


def explain(error: Any) -> Trouble:  # noqa: ANN401 - whatever the driver raised
    """The primary result code is the low byte of SQLite's extended one."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    trouble = _TROUBLES.get(code, Trouble("the database failed", "check the file"))
    return Trouble(f"{trouble.message} ({error})", trouble.remedy, trouble.error)
