"""Where jobs, configurations and aliases are: in a database, or on a server. The commands know only :class:`Store`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from autokv import settings
from autokv.cli.tables import open_existing
from autokv.errors import RequestError

if TYPE_CHECKING:
    from autokv.client import Client
    from autokv.tuning.trial import TuningResult
    from autokv.wire import AliasMove, AliasView, ConfigurationView, Event, JobState, JobView

ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Server; default: AUTOKV_SERVER_URL, or none: the database is read."),
]


class Store(ABC):
    """Jobs, configurations and aliases. A context manager.

    Jobs are named by their ids, configurations by their ids or by how their digests begin; every method raises
    ``NotFoundError``, or ``StorageError``, where there is none.
    """

    def __init__(self, option: Sequence[str] = ()) -> None:
        self.option = list(option)
        """What leads another command here: ``--server URL``, ``--database URL``, or nothing."""

    @abstractmethod
    def jobs(self, *, states: Sequence[JobState], model: str | None, limit: int | None) -> Iterable[JobView]:
        """Jobs, the newest first; in any of ``states``, where there are any; ``limit`` of them at most."""

    @abstractmethod
    def job(self, job: str) -> JobView:
        """A job as it stands."""

    @abstractmethod
    def result(self, job: JobView) -> TuningResult | None:
        """What a job found; ``None`` before."""

    @abstractmethod
    def wait(self, job: str, on_event: Callable[[Event], None]) -> JobView:
        """Wait for the end of a job; ``on_event`` is told everything that happens to it, from the beginning."""

    @abstractmethod
    def cancel(self, job: str) -> JobView:
        """End a job that waits or runs."""

    @abstractmethod
    def retry(self, job: str) -> JobView:
        """Queue a job again that failed or was cancelled."""

    def resume_command(self, job: JobView) -> list[str]:
        """The command that goes on with a job that failed, was cancelled or was interrupted."""
        return ["autokv", "jobs", "retry", job.id, *self.option]

    @abstractmethod
    def download(self, job: str, folder: Path) -> Iterable[Path]:
        """Write the files of a job that is done."""

    @abstractmethod
    def configurations(self, job: str) -> Iterable[ConfigurationView]:
        """The configurations that a job found; of every job, where ``job`` is empty."""

    @abstractmethod
    def configuration(self, key: str, job: str = "") -> ConfigurationView:
        """A configuration, of ``job`` where that is not empty."""

    @abstractmethod
    def aliases(self) -> Iterable[AliasView]:
        """Every alias, the newest first."""

    @abstractmethod
    def alias(self, name: str) -> AliasView:
        """Where an alias points."""

    @abstractmethod
    def history(self, name: str) -> Iterable[AliasMove]:
        """Everything that an alias stood for, the newest first."""

    @abstractmethod
    def create_alias(self, name: str, configuration: str, note: str) -> AliasView:
        """Make an alias that is not there yet."""

    @abstractmethod
    def move_alias(self, name: str, configuration: str, revision: int, note: str) -> AliasView:
        """Point an alias elsewhere; refused where it is not at ``revision`` any more, as in the next two."""

    @abstractmethod
    def roll_back_alias(self, name: str, revision: int, to: int | None, note: str) -> AliasView:
        """Point an alias where it pointed at revision ``to``, or before its last move."""

    @abstractmethod
    def delete_alias(self, name: str, revision: int) -> None:
        """Delete an alias with its history."""

    @abstractmethod
    def close(self) -> None:
        """Let go of every connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(server: str | None, database: str | None) -> Store:
    """The server of ``--server``, the database of ``--database``, else the settings' server, else their database.

    Raises:
        RequestError: both are given, or the server is no HTTP URL.
        StorageError: the database is missing or cannot be used.
    """
    from autokv.runs.commands import database_option

    if server and database:
        raise RequestError("cannot be combined with --database", field="--server", remedy="give one of them")
    chosen = settings.current().server_url
    if server or (chosen and not database):
        from autokv.cli.server_store import ServerStore
        from autokv.client import Client

        return ServerStore(Client(server), ["--server", server] if server else [])
    from autokv.cli.database_store import DatabaseStore

    opened = open_existing(database)
    return DatabaseStore(opened, ["--database", opened.url] if chosen else database_option(opened.url))


def connect(server: str | None) -> Client:
    """A client of ``--server`` or of the settings' server, for what needs one.

    Raises:
        RequestError: none is named, or it is no HTTP URL.
    """
    from autokv.client import Client

    if not (server or settings.current().server_url):
        raise RequestError(
            "is missing, and AUTOKV_SERVER_URL is not set",
            field="--server",
            remedy="name a server, start one with `autokv serve`, or run the job here with `autokv tune`",
        )
    return Client(server)
