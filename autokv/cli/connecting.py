"""What the commands over a server share: its option, and the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autokv.client import Client

ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Server; default: AUTOKV_SERVER_URL, or http://127.0.0.1:8765."),
]


def connect(server: str | None) -> Client:
    """A client of ``--server`` or of the settings' server.

    Raises:
        RequestError: it is no HTTP URL.
    """
    from autokv.client import Client

    return Client(server)
