"""What a failed request means, when it is sent again, and where the reader of a job's events stands meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2
from pydantic import ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.asyncio import AsyncRetrying

from autokv.client.operation import Operation
from autokv.errors import (
    AutoKVError,
    ConflictError,
    KeyReusedError,
    NotFoundError,
    PreconditionError,
    RequestError,
    ServerError,
    TooLargeError,
    UnavailableError,
)
from autokv.wire import FINAL_STATES, Event, Problem

FIRST_SECONDS = 0.25
"""Before the second attempt; each later pause is twice as long."""
LONGEST_SECONDS = 8.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
"""A server that asks for more is asked again after this."""
BUSY = frozenset({429, 502, 503, 504})
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
"""After these the server cannot have seen the request."""
SILENCE_SECONDS = 60.0
"""A stream that sends nothing for so long, not even a sign of life, is opened again."""
PREFIX = "urn:autokv:problem:"
KINDS: dict[str, type[AutoKVError]] = {
    "conflict": ConflictError,
    "invalid": RequestError,
    "key-reused": KeyReusedError,
    "not-found": NotFoundError,
    "precondition-failed": PreconditionError,
    "precondition-required": PreconditionError,
    "too-large": TooLargeError,
    "unavailable": UnavailableError,
}
STATUSES: dict[int, type[AutoKVError]] = {
    404: NotFoundError,
    409: ConflictError,
    412: PreconditionError,
    413: TooLargeError,
    428: PreconditionError,
    503: UnavailableError,
}

T = TypeVar("T")


class Failure(Exception):  # noqa: N818 - carries the error that the caller gets
    """An attempt that came to nothing; ``again`` says whether another may help."""

    def __init__(self, error: AutoKVError, *, again: bool, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again
        self.after = after


def error_of(response: httpx2.Response) -> AutoKVError:
    """The error that an answer with a status of 400 or more means."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return ServerError(
            f"answered {response.status_code} {response.reason_phrase}".rstrip(),
            field=str(response.request.url),
            remedy="is it an AutoKV server?" if response.status_code < 500 else "try again later",
        )
    kind = KINDS.get(problem.type.removeprefix(PREFIX)) or STATUSES.get(problem.status)
    if kind is None:
        kind = RequestError if problem.status < 500 else ServerError
    if kind is ServerError:
        message = f"{problem.detail} (request {problem.request_id})"
        return ServerError(message, field=str(response.request.url), remedy=problem.remedy)
    first, *more = problem.errors or (None,)
    message = problem.detail if first is None else first.message
    if more:
        message = f"{message} (and {len(more)} more)"
    return kind(message, field=None if first is None else first.field, remedy=problem.remedy)


def accepted(operation: Operation[T], response: httpx2.Response, attempt: int = 1) -> httpx2.Response:
    """The answer, where it is not an error; its body has been read.

    Raises:
        Failure: it is one.
    """
    status = response.status_code
    gone = status == 404 and operation.method == "DELETE" and attempt > 1
    if status < 400 or gone:
        return response
    again = status == 429 or (status in BUSY and operation.repeatable)
    raise Failure(error_of(response), again=again, after=retry_after(response.headers.get("Retry-After")))


def lost(operation: Operation[T], url: str, error: httpx2.TransportError) -> Failure:
    """What a connection that failed means."""
    reason = str(error) or type(error).__name__
    if isinstance(error, UNSENT):
        shown = ServerError(
            f"cannot be reached ({reason})", field=url, remedy="start it with `autokv serve`, or name another server"
        )
        return Failure(shown, again=True)
    if operation.repeatable:
        shown = ServerError(f"did not answer ({reason})", field=url, remedy="look at the server's log")
        return Failure(shown, again=True)
    remedy = "look at what is there before you repeat it"
    return Failure(
        ServerError(f"was lost before it answered ({reason}); it may have done it", field=url, remedy=remedy),
        again=False,
    )


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` asks for, given as seconds or as a date; ``None`` where it says nothing."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_SECONDS) if seconds == seconds else None


def pause(failure: BaseException | None, failures: int) -> float:
    """Seconds to wait after so many failures in a row: what the server asks for, else ever longer, with jitter."""
    if isinstance(failure, Failure) and failure.after is not None:
        return failure.after
    longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return random.uniform(longest / 2, longest)


def _again(error: BaseException) -> bool:
    return isinstance(error, Failure) and error.again


def _wait(state: RetryCallState) -> float:
    return pause(state.outcome.exception() if state.outcome else None, state.attempt_number)


def retrying(retries: int, sleep: Callable[[float], None]) -> Retrying:
    """Attempts, until one gives no :class:`Failure` that another attempt may mend."""
    stop = stop_after_attempt(1 + retries)
    return Retrying(retry=retry_if_exception(_again), wait=_wait, stop=stop, sleep=sleep, reraise=True)


def async_retrying(retries: int, sleep: Callable[[float], Awaitable[None]]) -> AsyncRetrying:
    """The same for coroutines."""
    stop = stop_after_attempt(1 + retries)
    return AsyncRetrying(retry=retry_if_exception(_again), wait=_wait, stop=stop, sleep=sleep, reraise=True)


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
