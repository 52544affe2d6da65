"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.asyncio import AsyncRetrying

from autokv.client.operation import Operation
from autokv.client.problems import error_of
from autokv.errors import AutoKVError, ServerError

FIRST_SECONDS = 0.25
"""Before the second attempt; each later pause is twice as long."""
LONGEST_SECONDS = 8.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
"""A server that asks for more is asked again after this."""
BUSY = frozenset({429, 502, 503, 504})
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
"""After these the server cannot have seen the request."""

T = TypeVar("T")


class Failure(Exception):  # noqa: N818 - carries the error that the caller gets
    """An attempt that came to nothing; ``again`` says whether another may help."""

    def __init__(self, error: AutoKVError, *, again: bool, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again
        self.after = after


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
