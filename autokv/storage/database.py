"""``Database``: one open database and the repositories over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Self

from sqlalchemy.orm import Session

from autokv.errors import StorageError
from autokv.storage import service_tables  # noqa: F401 - the tables of tuning refer to them
from autokv.storage.aliases import Aliases
from autokv.storage.backend import WRITES
from autokv.storage.configurations import Configurations
from autokv.storage.devices import KernelTimes, Profiles
from autokv.storage.engine import parse, shown, translated
from autokv.storage.events import Events
from autokv.storage.jobs import Jobs
from autokv.storage.maintenance import Check, check
from autokv.storage.queue import Queue
from autokv.storage.schema import migrate, newest, require_current
from autokv.storage.summaries import Summaries
from autokv.storage.trials import Trials
from autokv.storage.tuning_results import Results
from autokv.storage.uploads import Uploads
from autokv.storage.workers import Workers


class Database:
    """A database, opened and brought to this version's schema.

    ``create`` makes a missing SQLite file, and the tables in an empty database; a command that only reads passes
    ``False``. ``upgrade=False`` leaves an older schema as it is and refuses it. May be shared by threads, not by forked
    processes.

    Raises:
        UnavailableError: it cannot be reached now.
        StorageError: it cannot be opened, is not a database, is another program's, or is from a newer version.
    """

    def __init__(self, url: str, *, create: bool = True, upgrade: bool = True) -> None:
        self.url = url
        """As it was given, with its password; ``shown`` is for people."""
        self.shown = shown(url)
        self._url, self._backend = parse(url)
        self._engine = self._backend.open_engine(self._url, self.shown, create=create)
        self._reader = self._backend.reading(self._engine)
        self._writer = self._engine.execution_options(**{WRITES: True})
        self.schema = newest()
        self.found_schema: str | None = self.schema
        """What it had when it was opened; ``None`` where it was empty."""
        try:
            with self._translated():
                if upgrade:
                    self.found_schema = migrate(self._engine, self._backend, self.shown, create=create)
                else:
                    require_current(self._engine, self.shown)
        except StorageError:
            self.close()
            raise
        self.jobs = Jobs(self.reading, self.writing)
        self.queue = Queue(self.reading, self.writing)
        self.events = Events(self.reading, self.writing)
        self.workers = Workers(self.reading, self.writing)
        self.trials = Trials(self.reading, self.writing)
        self.results = Results(self.reading, self.writing)
        self.summaries = Summaries(self.reading, self.writing)
        self.configurations = Configurations(self.reading, self.writing)
        self.uploads = Uploads(self.reading, self.writing)
        self.profiles = Profiles(self.reading, self.writing)
        self.aliases = Aliases(self.reading, self.writing)
        self.kernel_times = KernelTimes(self.reading, self.writing)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database and writes nothing."""
        with self._translated(), Session(self._reader) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that writes; commits at the end, all or nothing. On SQLite it holds the only write lock, on
        PostgreSQL the rows that it locks.

        Raises:
            ConflictError: the database refused what contradicts what it holds.
            UnavailableError: it is locked or cannot be reached; where the connection was lost while it committed, what
                was written may be there.
            StorageError: it failed, or the disk is full. Nothing was written in the cases above but that one.
        """
        with self._translated(), Session(self._writer) as session, session.begin():
            yield session

    def check_ready(self) -> None:
        """Check that the database answers and has this version's schema.

        Raises:
            UnavailableError: it does not answer.
            StorageError: its schema is another version's.
        """
        with self._translated():
            require_current(self._engine, self.shown)

    def check(self) -> tuple[Check, ...]:
        """Look whether the database is whole and agrees with itself; reads all of it, and changes nothing."""
        with self.reading() as session:
            return check(session, self._backend)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._url, self._backend, self.shown)

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
