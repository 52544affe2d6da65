"""``Database``: one open database and the repositories over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from sqlalchemy.orm import Session

from autokv.errors import StorageError
from autokv.storage import service_tables  # noqa: F401 - the tables of tuning refer to them
from autokv.storage.configurations import Configurations
from autokv.storage.engine import WRITES, open_engine, translated
from autokv.storage.jobs import Jobs
from autokv.storage.kernel_times import KernelTimes
from autokv.storage.results import Results
from autokv.storage.schema import migrate
from autokv.storage.trials import Trials


class Database:
    """A database, opened and brought to this version's schema.

    ``create`` makes a missing file; a command that only reads passes ``False``. May be shared by threads, not by
    forked processes.

    Raises:
        StorageError: it cannot be opened, is not a database, is another program's, or is from a newer version.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.url = url
        self._engine = open_engine(url, create=create)
        self._writer = self._engine.execution_options(**{WRITES: True})
        try:
            with translated(url):
                migrate(self._engine, url)
        except StorageError:
            self.close()
            raise
        self.jobs = Jobs(self.reading, self.writing)
        self.trials = Trials(self.reading, self.writing)
        self.results = Results(self.reading, self.writing)
        self.configurations = Configurations(self.reading)
        self.kernel_times = KernelTimes(self.reading, self.writing)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database and writes nothing."""
        with translated(self.url), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that holds the write lock; commits at the end, all or nothing.

        Raises:
            StorageError: the database is locked, full or refuses what contradicts it; nothing was written.
        """
        with translated(self.url), Session(self._writer) as session, session.begin():
            yield session

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
