"""Where jobs, configurations and aliases are: on a server, or in a database.

The commands ask a :data:`Store` as they would ask a server's :class:`~autokv.client.Client`; a database answers the
same. Beside ``jobs``, ``configurations`` and ``aliases`` both have ``option`` (what leads another command to the same
place), ``configuration``, ``result``, ``wait``, ``download`` and ``resume_command``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autokv import settings
from autokv.cli.tables import open_existing
from autokv.errors import RequestError
from autokv.runs.commands import database_option

if TYPE_CHECKING:
    from autokv.cli.database_store import DatabaseStore
    from autokv.cli.server_store import ServerStore

    Store = ServerStore | DatabaseStore

ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Server; default: AUTOKV_SERVER_URL, or none: the database is read."),
]


def open_store(server: str | None, database: str | None) -> Store:
    """The server of ``--server``, the database of ``--database``, else the settings' server, else their database.

    Raises:
        RequestError: both are given, or the server is no HTTP URL.
        StorageError: the database is missing or cannot be used.
    """
    chosen = settings.current().server_url
    if server and database:
        raise RequestError("cannot be combined with --database", field="--server", remedy="give one of them")
    if server or (chosen and not database):
        return open_server(server)
    from autokv.cli.database_store import DatabaseStore

    opened = open_existing(database)
    return DatabaseStore(opened, ["--database", opened.url] if chosen else database_option(opened.url))


def open_server(server: str | None) -> ServerStore:
    """The server of ``--server`` or of the settings, else the one that `autokv serve` starts, for what needs a server.

    Raises:
        RequestError: it is no HTTP URL.
    """
    from autokv.cli.server_store import ServerStore

    return ServerStore(server or (None if settings.current().server_url else settings.LOCAL_SERVER))
