"""``Jobs``: what a client asks of tuning jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from secrets import token_urlsafe
from typing import Any, overload

from pydantic import ValidationError

from autokv.client.connection import AsyncConnection, Connection
from autokv.client.methods import Bound, C, call, every
from autokv.client.operation import Operation, model, nothing, page, path, text
from autokv.documents import first_problem
from autokv.errors import RequestError
from autokv.wire import Event, FrontView, JobSubmission, JobView, Page, TrialView, ValidationView

Submission = JobSubmission | Mapping[str, Any]
WAIT_SECONDS = 60.0
"""The longest that a server waits before it answers."""


class Jobs(Bound[C]):
    """Tuning jobs."""

    @call
    def submit(self, submission: Submission, *, key: str | None = None, wait: float = 0.0) -> Operation[JobView]:
        """Submit a job; the same ``key`` with the same submission is the same job.

        Args:
            submission: the job, as :class:`~autokv.wire.JobSubmission` or as its fields.
            key: an Idempotency-Key, at most 255 characters; a new one unless given, so that repeated sending after a
                lost connection makes one job.
            wait: seconds that the server waits for the job's end before it answers, at most 60.
        """
        headers = {"Idempotency-Key": key or token_urlsafe(24), **_prefer(wait)}
        return Operation(
            "POST", path("jobs"), model(JobView), headers=headers, json=_fields(submission), seconds=max(0.0, wait)
        )

    @call
    def validate(self, submission: Submission) -> Operation[ValidationView]:
        """What a submission would run, where, and about how long; nothing is stored."""
        return Operation("POST", path("jobs", "validate"), model(ValidationView), json=_fields(submission))

    @call
    def get(self, job: str, *, wait: float = 0.0) -> Operation[JobView]:
        """A job as it stands; ``wait`` as for :meth:`submit`."""
        return Operation("GET", path("jobs", job), model(JobView), headers=_prefer(wait), seconds=max(0.0, wait))

    @every
    def list(
        self,
        *,
        state: str | Sequence[str] | None = None,
        model: str | None = None,
        hardware: str | None = None,
        workload: str | None = None,
        limit: int | None = None,
    ) -> Operation[Page[JobView]]:
        """Jobs, the newest first, in any of the states; ``limit`` is what one request brings."""
        params = {"state": state, "model": model, "hardware": hardware, "workload": workload, "limit": limit}
        return Operation("GET", path("jobs"), page(JobView), params=params)

    @call
    def cancel(self, job: str) -> Operation[JobView]:
        """End a job that waits or runs."""
        return Operation("POST", path("jobs", job, "cancel"), model(JobView))

    @call
    def retry(self, job: str) -> Operation[JobView]:
        """Run a failed or cancelled job again, with the trials that it has."""
        return Operation("POST", path("jobs", job, "retry"), model(JobView))

    @call
    def delete(self, job: str) -> Operation[None]:
        """Forget a job that has ended, and everything that belongs to it."""
        return Operation("DELETE", path("jobs", job), nothing)

    @every
    def trials(self, job: str, *, limit: int | None = None) -> Operation[Page[TrialView]]:
        """The finished trials of a job, by number."""
        return Operation("GET", path("jobs", job, "trials"), page(TrialView), params={"limit": limit})

    @call
    def front(self, job: str) -> Operation[FrontView]:
        """The Pareto front of a job that is done."""
        return Operation("GET", path("jobs", job, "front"), model(FrontView))

    @call
    def report(self, job: str) -> Operation[str]:
        """The report of a job that is done: one HTML page that needs no network."""
        return Operation("GET", path("jobs", job, "report.html"), text)

    @overload
    def events(
        self: Jobs[Connection], job: str, *, after: int = 0, deadline: float | None = None
    ) -> Iterator[Event]: ...
    @overload
    def events(
        self: Jobs[AsyncConnection], job: str, *, after: int = 0, deadline: float | None = None
    ) -> AsyncIterator[Event]: ...
    def events(self: Jobs[Any], job: str, *, after: int = 0, deadline: float | None = None) -> Any:
        """What happens to a job behind event ``after``, until it has ended.

        It reconnects when a connection breaks or the server restarts. ``deadline`` is a time of :func:`time.monotonic`.

        Raises:
            AutoKVError: the server has no such job, or could not be reached for too long.
            TimeoutError: the deadline has passed; the job goes on.
        """
        return self._connection.follow(job, after=after, deadline=deadline)


def _prefer(seconds: float) -> dict[str, str]:
    """Whole seconds, as RFC 7240 has them."""
    return {"Prefer": f"wait={min(round(seconds), int(WAIT_SECONDS))}"} if seconds >= 0.5 else {}


def _fields(submission: Submission) -> dict[str, Any]:
    """What was set; the server writes its own defaults.

    Raises:
        RequestError: naming the first field that is wrong.
    """
    if not isinstance(submission, JobSubmission):
        try:
            submission = JobSubmission.model_validate(submission)
        except ValidationError as error:
            field, message, remedy = first_problem(JobSubmission, error)
            remedy = remedy or "see autokv.wire.JobSubmission"
            raise RequestError(message, field=field or None, remedy=remedy) from None
    return submission.model_dump(mode="json", exclude_unset=True)
