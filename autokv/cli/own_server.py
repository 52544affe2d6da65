"""A server for as long as a command runs: ``autokv serve`` on a free port, with its workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from autokv import settings
from autokv.errors import ServerError

POLL_SECONDS = 0.05
LIMIT_SECONDS = 30.0
"""For a server that was told to stop at once."""


@contextmanager
def own_server(database_url: str, log: Path) -> Iterator[str]:
    """The URL of a server over ``database_url`` with one worker, which writes to ``log``.

    It ends with the block: first its worker finishes the batch of trials that is running. Ctrl-C then, or an end of
    this process of any kind, ends it without waiting.

    Raises:
        ServerError: it did not start.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="autokv-") as folder, log.open("ab") as written:
        ready = Path(folder) / "ready.json"
        process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-m", "autokv.cli.tether", "serve", "--port", "0", "--ready-file", str(ready)],
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=written,
            env={**os.environ, f"{settings.PREFIX}DATABASE_URL": database_url, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
        try:
            while not ready.is_file():
                if process.poll() is not None:
                    raise ServerError(f"the server did not start ({_last_line(log)})", remedy=f"see {log}")
                time.sleep(POLL_SECONDS)
            yield str(json.loads(ready.read_text(encoding="utf-8"))["url"])
        except KeyboardInterrupt:
            typer.echo("stopping after the batch of trials that is running; again to stop at once", err=True)
            raise
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
