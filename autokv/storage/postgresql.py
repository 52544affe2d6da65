"""PostgreSQL: everything that only it understands."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.compiler import compiles

from autokv.errors import ConflictError, RequestError, StorageError, UnavailableError
from autokv.storage.backend import Trouble
from autokv.storage.columns import database_now

LOCK_SECONDS = 30
"""How long a statement waits for a row that another transaction holds."""
STATEMENT_SECONDS = 60
IDLE_SECONDS = 60
"""How long a transaction may sit idle: a process that was stopped in one does not hold its rows for ever."""
CONNECT_SECONDS = 10
UNANSWERED_SECONDS = 20
"""A connection whose other end has not acknowledged what was sent for this long is given up."""
CONNECTIONS = 10
FURTHER_CONNECTIONS = 10
"""Opened beyond ``CONNECTIONS`` while all of them are in use, and closed again."""
WAIT_SECONDS = 10

MIGRATION_SECONDS = 300
"""How long a migration waits for another one, and for those who use the tables."""
MIGRATION_LOCK = 0x6175746F6B76
"""Key of the advisory lock that whoever changes the schema holds; the letters ``autokv``."""

EXAMPLE_URL = "postgresql://user@host/autokv"


@compiles(database_now, "postgresql")
def _timestamp(*_: object, **__: object) -> str:
    """The time now; CURRENT_TIMESTAMP is that of the transaction's begin."""
    return "clock_timestamp()"


def open_engine(url: URL, shown: str, *, create: bool) -> Engine:
    """See :class:`autokv.storage.backend.Backend`. What the URL's query says, in libpq's words, counts over the limits
    here. A database is never made: ``createdb`` is for whoever runs the server."""
    if not url.database:
        raise StorageError("names no database", field=shown, remedy=f"write it as in {EXAMPLE_URL}")
    limits = {
        "lock_timeout": LOCK_SECONDS,
        "statement_timeout": STATEMENT_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_SECONDS,
    }
    given: dict[str, object] = {
        "application_name": "autokv",
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": UNANSWERED_SECONDS * 1000,
        "keepalives_idle": UNANSWERED_SECONDS,
        "options": " ".join(f"-c {name}={seconds}s" for name, seconds in limits.items()),
    }
    try:
        return create_engine(
            url,
            connect_args={name: value for name, value in given.items() if name not in url.query},
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            pool_size=CONNECTIONS,
            max_overflow=FURTHER_CONNECTIONS,
            pool_timeout=WAIT_SECONDS,
            pool_use_lifo=True,
        )
    except ArgumentError as error:
        raise StorageError(f"{_BAD_OPTION.message} ({error})", field=shown, remedy=_BAD_OPTION.remedy) from None


def reading(engine: Engine) -> Engine:
    """Repeatable reads that write nothing: one state, as on SQLite, and nothing that could fail to serialize."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """A transaction that holds the advisory lock of migrations."""
    with engine.begin() as connection:
        _take_time(connection)
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        yield connection


def _take_time(connection: Connection) -> None:
    """Let the statements of this transaction run, and wait for locks, longer than a request may."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATION_SECONDS}s'")


def problems(connection: Connection) -> list[str]:
    """Indexes that are not valid, and constraints that were never checked; the server watches over its own pages.

    The rest of the transaction has time to look further.
    """
    _take_time(connection)
    indexes = connection.exec_driver_sql(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace"
    )
    constraints = connection.exec_driver_sql(
        "SELECT conname FROM pg_constraint WHERE NOT convalidated AND connamespace = current_schema()::regnamespace"
    )
    return [f"the index {name} is not valid" for (name,) in indexes] + [
        f"the constraint {name} was never checked" for (name,) in constraints
    ]


def backup(engine: Engine, url: URL, target: Path) -> None:
    """A dump by ``pg_dump``, which must be on the PATH and at least of the server's version."""
    program = shutil.which("pg_dump")
    if program is None:
        raise StorageError("pg_dump is not on the PATH", remedy="install PostgreSQL's client programs")
    with engine.connect():
        pass  # what is wrong with the server is said in this program's words
    query = {name: value for name, value in url.query.items() if name != "password"}
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    password = url.password or url.query.get("password")
    done = subprocess.run(  # noqa: S603 - no shell, and the URL is one argument, without its password
        [
            program,
            "--format=custom",
            "--no-owner",
            "--no-privileges",
            "--no-password",
            f"--file={target}",
            f"--dbname={plain.render_as_string(hide_password=False)}",
        ],
        env={**os.environ, **({"PGPASSWORD": str(password)} if password else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StorageError(
            f"pg_dump failed ({done.stderr.strip()})", remedy="its version must not be below the server's"
        )


_UNREACHABLE = Trouble(
    "the database cannot be reached",
    "check that the server runs and that the URL names it; what was stored before is safe",
    UnavailableError,
)
_BUSY = Trouble("the database did not get to it in time", "try again in a moment", UnavailableError)
_CLASHED = Trouble("another transaction was in the way; nothing was changed", "try again", UnavailableError)
_REFUSED = Trouble(
    "the database refused what contradicts what it holds", "look at the job with `jobs show`", ConflictError
)
_NO_ENTRY = Trouble("the database does not let this user in", "check the user, the password and the server's rights")
_NO_DATABASE = Trouble("there is no such database on the server", "make it with `createdb`, or check --database")
_NO_TABLES = Trouble("the tables are not those of this version", "bring them up to date with `autokv db upgrade`")
_READ_ONLY = Trouble(
    "the database cannot be written now", "name the primary server, and check the user's rights", UnavailableError
)
_FULL = Trouble(
    "the server has no space left; what was stored before is untouched",
    "free some space on the server's disk",
    UnavailableError,
)
_DAMAGED = Trouble("the database is damaged", "restore a copy of it")
_BAD_VALUE = Trouble("a value cannot be stored", "use another one", RequestError)
_BAD_OPTION = Trouble("an option of the URL makes no sense", "see PostgreSQL's list of connection parameters")
_UNKNOWN = Trouble("the database failed", "look into the server's log")

_TROUBLES = {
    "08": _UNREACHABLE,
    "22": _BAD_VALUE,
    "23": _REFUSED,
    "25006": _READ_ONLY,
    "25P03": _UNREACHABLE,
    "28": _NO_ENTRY,
    "3D": _NO_DATABASE,
    "3F": _NO_TABLES,
    "40": _CLASHED,
    "42501": _NO_ENTRY,
    "42703": _NO_TABLES,
    "42P01": _NO_TABLES,
    "53100": _FULL,
    "53": _UNREACHABLE,
    "55P03": _BUSY,
    "57014": _BUSY,
    "57": _UNREACHABLE,
    "58": _UNREACHABLE,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}
"""SQLSTATEs, and the first two characters of whole classes of them."""

_WORDS = {
    "permission denied for database": _NO_ENTRY,
    "is not permitted to log in": _NO_ENTRY,
    "no pg_hba.conf entry": _NO_ENTRY,
    "too many connections": _UNREACHABLE,
    'role "': _NO_ENTRY,
    "does not exist": _NO_DATABASE,
    "no password supplied": _NO_ENTRY,
    "authentication failed": _NO_ENTRY,
    "cannot contain NUL": _BAD_VALUE,
    "connection is bad: invalid": _BAD_OPTION,
    "invalid connection option": _BAD_OPTION,
}
"""What has no SQLSTATE: how the server refuses a connection, of which libpq hands over the words only, and what the
driver refuses."""


def explain(error: Any) -> Trouble:  # noqa: ANN401 - whatever the driver raised
    """By SQLSTATE; an error without one was raised on this side, for want of a connection."""
    code = getattr(error, "sqlstate", None)
    detail = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    if code is not None:
        trouble = _TROUBLES.get(code) or _TROUBLES.get(code[:2], _UNKNOWN)
    else:
        said = (trouble for words, trouble in _WORDS.items() if words in detail)
        lost = type(error).__name__ in {"OperationalError", "InterfaceError", "ConnectionTimeout", "PoolTimeout"}
        trouble = next(said, _UNREACHABLE if lost else _UNKNOWN)
    return Trouble(f"{trouble.message} ({detail})", trouble.remedy, trouble.error)
