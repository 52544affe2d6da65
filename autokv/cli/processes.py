"""Other processes of ``autokv``: those that are kept running, and a server for as long as a command runs.

Each runs for no longer than the process that started it: ``python -m autokv.cli.processes COMMAND …``. Its standard
input is a pipe of which only that process holds the other end: it closes when the process ends, however that comes
about.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from autokv import settings
from autokv.errors import ServerError

_log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
"""Before a child that ended is started again; twice as long each time that it ends soon."""
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A child that ran for so long begins again with the first pause."""


class Supervisor:
    """Keeps one process running for each command line of ``autokv``.

    Args:
        commands: arguments of ``autokv``, one sequence for each process.
        environment: of the processes, beside this process's own.
    """

    def __init__(self, commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._lock = threading.RLock()  # a signal may come while it is held
        self._stopping = threading.Event()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._threads = [
            threading.Thread(target=self._keep, args=(number, tuple(command)), name=f"supervisor {number}", daemon=True)
            for number, command in enumerate(commands)
        ]

    def start(self) -> None:
        """Start every process."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask every process to end, and start none again; asking a second time hurries them."""
        self._stopping.set()
        with self._lock:
            for process in self._processes.values():
                process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait until every process has ended; after ``seconds`` they are killed."""
        end = time.monotonic() + seconds
        while any(thread.is_alive() for thread in self._threads):
            if time.monotonic() >= end:
                with self._lock:
                    for process in self._processes.values():
                        process.kill()
            for thread in self._threads:
                thread.join(0.1)

    def _keep(self, number: int, command: tuple[str, ...]) -> None:
        pause = FIRST_PAUSE_SECONDS
        while (process := self._started(number, command)) is not None:
            began = time.monotonic()
            code = process.wait()
            with self._lock:
                del self._processes[number]
            if process.stdin:
                process.stdin.close()
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            if not self._stopping.is_set():
                _log.warning("%s (process %d) ended with %d; starting it again", command[0], process.pid, code)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _started(self, number: int, command: tuple[str, ...]) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            self._processes[number] = _start(command, self._environment, stdout=sys.stderr.fileno())
            return self._processes[number]


def _start(
    command: Sequence[str], environment: Mapping[str, str], *, stdout: int, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    """A process, in a group of its own so that a terminal's Ctrl-C reaches it through this one alone."""
    return subprocess.Popen(  # noqa: S603 - this program itself
        [sys.executable, "-m", "autokv.cli.processes", *command],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env={**os.environ, **environment, "PYTHONSAFEPATH": "1"},
        start_new_session=True,
    )


POLL_SECONDS = 0.05
STOPPING_SECONDS = 30.0
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
        command = ["serve", "--port", "0", "--ready-file", str(ready)]
        output = written.fileno()
        process = _start(command, {f"{settings.PREFIX}DATABASE_URL": database_url}, stdout=output, stderr=output)
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
            process.wait(STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


PAUSE_SECONDS = 0.5
"""Between asking to stop, and to stop at once."""
LIMIT_SECONDS = 10.0
"""For giving back what is held."""


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    for seconds in (PAUSE_SECONDS, LIMIT_SECONDS):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)
    os._exit(1)


if __name__ == "__main__":
    from autokv.cli.main import main

    threading.Thread(target=_end_with_parent, name="tether", daemon=True).start()
    main()
