"""The HTTP server of ``autokv serve``."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from autokv.api import logs
from autokv.api.app import create_app
from autokv.errors import RequestError, ServerError

KEEP_ALIVE_SECONDS = 75
"""For a connection on which nothing is asked: longer than proxies and clients keep theirs, so that none is closed under
a request."""
SWITCH_SECONDS = 0.001
"""After which a thread that computes lets another one go on: most wait for the database, and have little to do."""
GRACE_SECONDS = 5
"""For requests that are being answered when the server is asked to stop."""
BACKLOG = 2048
OTHER = "name another; port 0 is a free one"


class _Server(uvicorn.Server):
    """Says when it answers, passes on that it is to stop, and ends the streams of events before it waits."""

    def __init__(self, app: FastAPI, ready: Callable[[], None], stop: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)
        self._app, self._ready, self._stop = app, ready, stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.hub.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; the signal is not raised again afterwards, since the workers have yet to end."""
        self._stop()
        self.force_exit, self.should_exit = self.should_exit, True


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A socket that listens, and the URL of its address.

    Raises:
        RequestError: the address cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # asyncio sets it on sockets that it makes itself; without it a body waits for the caller's delayed ACK, 40 ms.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except socket.gaierror as error:
        raise RequestError(f"is no address of this machine ({error.strerror})", field="--host", remedy=OTHER) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise RequestError(f"port {port} of {host} cannot be had ({reason})", field="--port", remedy=OTHER) from None
    shown = f"[{host}]" if ":" in host else host
    return bound, f"http://{shown}:{bound.getsockname()[1]}"


def run(database_url: str, bound: socket.socket, *, ready: Callable[[], None], stop: Callable[[], None]) -> None:
    """Answer requests until a signal says stop.

    ``ready`` is called once requests are answered, ``stop`` at each SIGINT or SIGTERM, also while what it stops ends.

    Raises:
        ServerError: the application did not start; the log says why.
    """
    logs.install()
    sys.setswitchinterval(SWITCH_SECONDS)
    server = _Server(create_app(database_url), ready, stop)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    server.run(sockets=[bound])
    if not server.started:
        raise ServerError("did not start", remedy="see the log above")
