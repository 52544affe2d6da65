"""What a worker waits for: signals, and the end of the process that it watches."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Literal

Mail = Literal["signal", "exited"]


class Mailbox:
    """Signal handlers and threads put into it, the main thread waits for it.

    An event would not do: a handler that sets it may have interrupted the very code that holds its lock.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Mail] = SimpleQueue()
        self.signalled = False
        """Whether a signal has been read."""

    def put(self, mail: Mail) -> None:
        """May be called from anywhere."""
        self._queue.put(mail)

    def wait(self, seconds: float) -> Mail | None:
        """The next mail; None where none comes within ``seconds``."""
        try:
            mail = self._queue.get(timeout=max(0.0, seconds))
        except Empty:
            return None
        self.signalled = self.signalled or mail == "signal"
        return mail

    @contextmanager
    def signals(self) -> Iterator[None]:
        """While SIGTERM and SIGINT come in as mail."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, lambda *_: self.put("signal")) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
