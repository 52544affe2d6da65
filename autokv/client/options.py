"""How a client connects, and how patient it is."""

from __future__ import annotations

from importlib.metadata import version
from typing import TypedDict

import httpx2

from autokv import settings
from autokv.errors import RequestError

TIMEOUT_SECONDS = 30.0
"""Of silence, for anything but a stream of events."""
RETRIES = 6
"""After the first attempt; with the pauses between them, they bear a server that restarts within 10 seconds."""
PATIENCE_SECONDS = 300.0
"""Without a server, after which following a job gives up."""


class HttpOptions(TypedDict):
    """What both kinds of HTTP client are made with."""

    base_url: str
    timeout: float
    headers: dict[str, str]


def http_options(url: str | None, timeout: float) -> HttpOptions:
    """Options of a client for ``url``, the settings' server, or the local one.

    Raises:
        RequestError: it is no HTTP URL.
    """
    server = (url or settings.current().server_url or settings.LOCAL_SERVER).rstrip("/")
    try:
        parsed = httpx2.URL(server)
    except httpx2.InvalidURL as error:
        raise RequestError(str(error), field=server, remedy=f"such as {settings.LOCAL_SERVER}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise RequestError("is no HTTP URL", field=server, remedy=f"such as {settings.LOCAL_SERVER}")
    return {"base_url": server, "timeout": timeout, "headers": {"User-Agent": f"autokv/{version('autokv')}"}}
