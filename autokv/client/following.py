"""Where the reader of a job's events stands; it outlives the connections."""

from __future__ import annotations

import time

import httpx2
from pydantic import ValidationError

from autokv.client.retries import Failure, pause
from autokv.errors import ServerError
from autokv.wire import FINAL_STATES, Event

SILENCE_SECONDS = 60.0
"""A stream that sends nothing for so long, not even a sign of life, is opened again."""


class Position:
    """The last event that was read, and how long there has been no connection.

    Args:
        after: number of the last event that is known.
        patience: seconds without a server after which reading fails.
        deadline: of :func:`time.monotonic`; reading ends with ``TimeoutError`` there.
    """

    def __init__(self, after: int, patience: float, deadline: float | None = None) -> None:
        self.number = after
        self.over = False
        self._patience = patience
        self._deadline = deadline
        self._failures = 0
        self._failing_since = 0.0

    @property
    def silence(self) -> float:
        """Seconds after which a silent connection is given up.

        Raises:
            TimeoutError: the deadline has passed.
        """
        if self._deadline is None:
            return SILENCE_SECONDS
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the job has not ended in time; it goes on")
        return min(SILENCE_SECONDS, left)

    def connected(self) -> None:
        """The server answers."""
        self._failures = 0

    def read(self, sent: httpx2.ServerSentEvent) -> Event | None:
        """The event, or ``None`` where it is known already.

        Raises:
            ServerError: it is not one of this API's.
        """
        if not sent.data:
            return None
        try:
            event = Event.model_validate_json(sent.data)
        except ValidationError:
            raise ServerError(
                f"sent an event that cannot be read ({sent.data[:80]!r})", remedy="is it as new as this client?"
            ) from None
        if event.number <= self.number:
            return None
        self.number, self.over = event.number, event.kind in FINAL_STATES
        return event

    def wait(self, failure: Failure | None) -> float:
        """Seconds to wait before the next connection; ``failure`` is why the last one ended, if it did not just close.

        Raises:
            AutoKVError: another connection would not help, or there has been none for too long.
            TimeoutError: the deadline has passed.
        """
        if failure is not None and not failure.again:
            raise failure.error from None
        now = time.monotonic()
        if self._failures == 0:
            self._failing_since = now
        elif failure is not None and now - self._failing_since > self._patience:
            raise failure.error from None
        self._failures += 1
        return min(pause(failure, self._failures), self.silence)
