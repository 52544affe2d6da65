"""``Supervisor``: child processes that are started again when they end, and that end with this process."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

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
        self._environment = {**os.environ, **environment, "PYTHONSAFEPATH": "1"}
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
                log.warning("%s (process %d) ended with %d; starting it again", command[0], process.pid, code)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _started(self, number: int, command: tuple[str, ...]) -> subprocess.Popen[bytes] | None:
        """A process, in a group of its own so that a terminal's Ctrl-C reaches it through this one alone."""
        with self._lock:
            if self._stopping.is_set():
                return None
            self._processes[number] = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-m", "autokv.cli.tether", *command],
                stdin=subprocess.PIPE,
                stdout=sys.stderr.fileno(),
                env=self._environment,
                start_new_session=True,
            )
            return self._processes[number]
