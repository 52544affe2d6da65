"""Opening a database. Everything that only SQLite understands is in this module."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.compiler import compiles

from autokv.errors import StorageError
from autokv.storage.columns import database_now

BUSY_SECONDS = 30
"""How long a connection waits for another process to finish writing."""

WRITES = "autokv_writes"
"""Execution option of connections that write: they take the write lock when they begin, not when they first write."""

EXAMPLE_URL = "sqlite:///autokv.db"


@compiles(database_now)
def _current_timestamp(*_: object, **__: object) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(database_now, "sqlite")
def _sqlite_timestamp(*_: object, **__: object) -> str:
    """UTC to the millisecond, spelled with the six digits that SQLAlchemy writes (CURRENT_TIMESTAMP has seconds)."""
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def open_engine(url: str, *, create: bool) -> Engine:
    """An engine for the SQLite file of ``url``; ``create`` makes the file and its folder where they are missing.

    Raises:
        StorageError: the URL is malformed or of another database, or no file can be there.
    """
    parsed = _parse(url)
    path = Path(str(parsed.database)).expanduser()
    try:
        if path.is_dir():
            raise StorageError("is a folder", field=url, remedy=f"name a file in it, as in {EXAMPLE_URL}")
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise StorageError("there is no such database", field=url, remedy="check --database, or tune a model first")
    except OSError as error:
        raise StorageError(f"cannot be opened ({error.strerror})", field=url, remedy="check the path") from None
    engine = create_engine(parsed.set(database=str(path)), connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


@contextmanager
def tables_may_be_copied(connection: Connection) -> Iterator[None]:
    """Let a migration alter a table that others refer to by copying it; to be entered before it begins."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def check_references(connection: Connection) -> None:
    """Check, at the end of a migration, the references that were not enforced while it ran.

    Raises:
        StorageError: a row refers to one that is not there.
    """
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise StorageError("the database has rows that refer to missing ones", remedy="restore a copy of it")


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn what the driver raises into one line for a person.

    Raises:
        StorageError: the database could not do what was asked.
    """
    try:
        yield
    except DBAPIError as error:
        message, remedy = _explain(error.orig)
        raise StorageError(message, field=url, remedy=remedy) from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError("is not a database URL", field=url, remedy=f"write it as in {EXAMPLE_URL}") from None
    shown = parsed.render_as_string(hide_password=True)
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
        raise StorageError(
            f"databases of the kind {parsed.drivername!r} are not supported",
            field=shown,
            remedy=f"use SQLite, as in {EXAMPLE_URL}",
        )
    if not parsed.database or parsed.database.startswith((":", "file:")) or parsed.query or parsed.host:
        raise StorageError(
            "does not name a plain file, so nothing would be kept", field=shown, remedy=f"write it as in {EXAMPLE_URL}"
        )
    return parsed


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


_EXPLANATIONS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: (
        "the disk is full; what was stored before is untouched",
        "free some space, or name another place with --database",
    ),
    sqlite3.SQLITE_BUSY: ("the database is locked by another process", "wait for it, or stop it"),
    sqlite3.SQLITE_LOCKED: ("the database is locked by another process", "wait for it, or stop it"),
    sqlite3.SQLITE_NOTADB: ("the file is not an SQLite database", "name another file with --database"),
    sqlite3.SQLITE_CORRUPT: ("the database is damaged", "restore a copy, or name another file with --database"),
    sqlite3.SQLITE_READONLY: ("the database cannot be written", "check the rights of the file and of its folder"),
    sqlite3.SQLITE_CANTOPEN: ("the database cannot be opened", "check the path and the rights of its folder"),
    sqlite3.SQLITE_IOERR: ("the disk failed or is full; what was stored before is untouched", "check the disk"),
    sqlite3.SQLITE_CONSTRAINT: (
        "the database refused what contradicts what it holds",
        "look at the job with `jobs show`",
    ),
}


def _explain(error: Any) -> tuple[str, str]:  # noqa: ANN401 - whatever the driver raised
    """The primary result code is the low byte of SQLite's extended one."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    message, remedy = _EXPLANATIONS.get(code, ("the database failed", "check the file"))
    return f"{message} ({error})", remedy
