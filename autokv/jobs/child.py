"""The process of an attempt, seen from the worker: what it is ordered, how it is stopped, and why it ended."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from autokv.storage import Lease

log = logging.getLogger("autokv.worker")

LONGEST_LINE = 500
"""Characters of a line of output that are kept as the reason of a crash."""
ATTEMPT = (sys.executable, "-P", "-m", "autokv.jobs.attempt")
"""Command of an attempt; ``-P`` keeps the current folder off the path."""
ENDED = 0
"""Exit code: the database knows how the attempt ended."""
AWAY = 75
"""Exit code: the database could not be reached for too long."""


@dataclass(frozen=True)
class Order:
    """An attempt at a job. It travels through a pipe, not on a command line, because a URL may hold a password."""

    database: str
    lease: Lease
    device: str
    executor: str = "local"
    devices: int = 1
    """How many devices the executor may use."""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> Order:
        """The inverse of :meth:`to_json`."""
        document = json.loads(text)
        return Order(**{**document, "lease": Lease(**document["lease"])})


class Child:
    """A running attempt. It is the head of a process group of its own: an interrupt from the terminal passes it by.

    Args:
        order: what it is to do.
        on_exit: called from another thread when it has ended.
        command: what to run.
    """

    def __init__(self, order: Order, on_exit: Callable[[], None], command: Sequence[str] = ATTEMPT) -> None:
        # Threads that spin for long make a shared machine slower still; libgomp reads this when torch is loaded.
        environment = {"GOMP_SPINCOUNT": "3000", **os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,
        )
        self._job, self._last = order.lease.job_id, ""
        self._reader = threading.Thread(target=self._read, name="output", daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, args=(on_exit,), name="exit", daemon=True).start()
        # A child that died before it read its order is seen by its exit.
        with suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.write(f"{order.to_json()}\n".encode())
                self._process.stdin.flush()

    @property
    def process(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def reason(self) -> str:
        """Why it ended, in a line."""
        code = self._process.wait()
        # Processes that it started may hold its output open.
        self._reader.join(timeout=1)
        if code >= 0:
            how = f"the process ended with exit code {code}"
        else:
            how = f"the process was ended by {signal.Signals(-code).name}"
            how += " (did the machine run out of memory?)" if -code == signal.SIGKILL else ""
        return f"{how}: {self._last}" if self._last else how

    def stop(self) -> None:
        """Ask it to stop after the batch that it runs."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """End it, and whatever it started, at once."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _read(self) -> None:
        for raw in self._process.stdout or ():
            line = raw.decode(errors="replace").rstrip()
            if line:
                self._last = line[-LONGEST_LINE:]
                log.info(line, extra={"job": self._job})

    def _wait(self, on_exit: Callable[[], None]) -> None:
        self._process.wait()
        on_exit()
