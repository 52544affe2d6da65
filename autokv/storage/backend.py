"""What a kind of database has to answer, and the marks that a connection carries."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL

from autokv.errors import InputError, StorageError

WRITES = "autokv_writes"
"""Execution option of connections that write: on SQLite they take the write lock when they begin."""


@dataclass(frozen=True)
class Trouble:
    """What a driver's error means to a person, and the error that says it to a program."""

    message: str
    remedy: str
    error: type[InputError] = StorageError


class Backend(Protocol):
    """A kind of database. SQLite's is the module :mod:`autokv.storage.sqlite`, PostgreSQL's is
    :mod:`autokv.storage.postgresql`; nothing outside them knows which one is open."""

    def open_engine(self, url: URL, shown: str, *, create: bool) -> Engine:
        """An engine for ``url``, which error messages spell ``shown``; a file is made where ``create`` says so.

        Raises:
            StorageError: the URL names nothing that can be opened.
        """

    def reading(self, engine: Engine) -> Engine:
        """Whose transactions see one state of the database."""

    def migrating(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A transaction that changes the schema while no other process does; committed at its end.

        Raises:
            StorageError: the changed database contradicts itself; nothing was changed.
        """

    def explain(self, error: Any) -> Trouble:  # noqa: ANN401 - whatever the driver raised
        """What the driver's ``error`` means."""

    def problems(self, connection: Connection) -> list[str]:
        """What the database's own check of itself finds, a line each."""

    def backup(self, engine: Engine, url: URL, target: Path) -> None:
        """Copy the database, as it is at one moment, to the file ``target``, which does not exist.

        Raises:
            StorageError: it cannot be copied.
        """
