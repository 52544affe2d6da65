"""A worker: claims jobs that fit its device, runs each in a process of its own, and keeps its heart beating meanwhile.

This process loads no torch, so that it stays small and lively while the other one computes. It renews the lease of the
job that it runs; where it is silent for longer than the lease, another worker takes the job, and what this one's
process still writes is refused.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Literal, TypeVar

from autokv.errors import LeaseLostError, UnavailableError
from autokv.jobs.child import ATTEMPT, AWAY, ENDED, Child, Order
from autokv.jobs.probing import Probed
from autokv.jobs.selector import Selector
from autokv.runs.versions import versions
from autokv.storage import Database, Lease
from autokv.storage.lease import this_host
from autokv.storage.queue import Claim
from autokv.storage.repository import through_outages
from autokv.wire import WorkerState

log = logging.getLogger("autokv.worker")

POLL_SECONDS = 0.5
"""Between two looks into an empty queue."""
LOSS_SECONDS = 1.0
"""For the process of an attempt to end once its lease is lost; nothing that it does counts any more."""
EXPIRE_SECONDS = 3600.0
"""Between two looks for jobs that have been kept long enough."""

Mail = Literal["signal", "exited"]
End = Literal["itself", "signal", "loss"]
"""What ended an attempt: itself, a signal to this worker, or the loss of its lease."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works. Times are in seconds."""

    labels: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    """End after one job, or where none waits."""
    drain_seconds: float = 60.0
    """How long a batch of trials may go on when the worker is asked to stop."""
    lease_seconds: float = 30.0
    heartbeat_seconds: float = 2.0
    retention_days: float | None = None
    executor: str = "local"
    devices: int = 1


def register(
    database: Database,
    probed: Probed,
    lease_seconds: float,
    labels: Mapping[str, str] | None = None,
    state: WorkerState = "ready",
) -> str:
    """Add this process to the workers, and return its id there."""
    return database.workers.register(
        host=this_host(),
        process=os.getpid(),
        device=probed.device,
        labels=labels or {},
        profile=probed.profile.to_dict(),
        versions=versions(),
        seconds=lease_seconds,
        state=state,
    )


class Mailbox:
    """What a worker waits for: signal handlers and threads put into it, the main thread takes out.

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


class Worker:
    """Works until it is asked to stop, once to finish the batch of trials that runs, twice to stop at once.

    Args:
        database: where jobs are.
        probed: the worker's device.
        options: how it works.
        command: runs an attempt.
    """

    def __init__(
        self, database: Database, probed: Probed, options: WorkerOptions, command: Sequence[str] = ATTEMPT
    ) -> None:
        self._database, self._probed, self._options, self._command = database, probed, options, command
        self._mail, self._away = Mailbox(), False
        self._next_beat = self._next_expiry = 0.0
        # A row too many, of a commit that was not heard of, counts as gone when its time is over.
        self.id = through_outages(partial(register, database, probed, options.lease_seconds, options.labels))

    def run(self) -> None:
        """Claim and run jobs until a signal says stop; SIGTERM and SIGINT, in the main thread."""
        log.info("worker %s is ready: %s (%s)", self.id, self._probed.device, self._probed.profile.name)
        with self._mail.signals():
            while not self._mail.signalled:
                claim = self._reaching(self._claim)
                if claim is not None:
                    self._attempt(claim)
                elif not self._options.once:
                    self._mail.wait(POLL_SECONDS)
                if self._options.once:
                    break
        self._reaching(lambda: self._database.workers.state(self.id, "stopped"))
        log.info("worker %s has stopped", self.id)

    def _claim(self) -> Claim | None:
        self._beat()
        return self._database.queue.claim(self.id, self._fits, self._options.lease_seconds)

    def _fits(self, selector: str) -> bool:
        profile = self._probed.profile
        return Selector.parse(selector).fits(profile.fingerprint, profile.name, self._options.labels)

    def _attempt(self, claim: Claim) -> None:
        """Run one attempt to its end, whatever ends it."""
        options, lease = self._options, claim.lease
        order = Order(self._database.url, lease, self._probed.device, options.executor, options.devices)
        try:
            child = Child(order, lambda: self._mail.put("exited"), self._command)
        except OSError as error:
            reason = f"the process of the attempt could not be started ({error.strerror})"
            self._reaching(lambda: self._crashed(lease, reason))
            return
        log.info("attempt %d runs in process %d", lease.attempt, child.process, extra={"job": lease.job_id})
        try:
            ended_by = self._watch(child, claim)
        finally:
            child.kill()
        if child.code != ENDED and ended_by != "loss":
            self._reaching(lambda: self._settle(child, lease, ended_by))

    def _watch(self, child: Child, claim: Claim) -> End:
        """Wait for the attempt's end, renewing its lease, and say what brought it about."""
        ended_by: End = "itself"
        last_moment = math.inf
        while child.code is None:
            lost = ended_by == "loss"
            mail = self._mail.wait(min(last_moment, math.inf if lost else self._next_beat) - time.monotonic())
            if mail == "signal" or time.monotonic() >= last_moment:
                if ended_by != "itself":
                    child.kill()
                    break
                child.stop()
                ended_by, last_moment = "signal", time.monotonic() + self._options.drain_seconds
                self._reaching(lambda: self._database.workers.state(self.id, "draining"))
            elif not lost and self._reaching(lambda: self._beat(claim.lease)) is False:
                # It has just finished and is about to end, or the job was cancelled or taken over.
                child.stop()
                ended_by, last_moment = "loss", time.monotonic() + LOSS_SECONDS
        return ended_by

    def _settle(self, child: Child, lease: Lease, ended_by: End) -> None:
        """Store how an attempt ended whose own process did not."""
        if ended_by == "itself" and child.code != AWAY:
            self._crashed(lease, child.reason)
            return
        reason = "the worker was stopped" if ended_by == "signal" else "the database could not be reached"
        with suppress(LeaseLostError):
            self._database.queue.release(lease, reason)

    def _crashed(self, lease: Lease, reason: str) -> None:
        log.warning("attempt %d: %s", lease.attempt, reason, extra={"job": lease.job_id})
        with suppress(LeaseLostError):
            self._database.queue.crashed(lease, reason)
        # Another worker may have more luck with it.
        self._mail.wait(self._options.heartbeat_seconds)

    def _beat(self, lease: Lease | None = None) -> bool:
        """Once a heartbeat: renew the lease, say that this worker lives, and look after what others left.

        ``False`` where the lease is lost.
        """
        if time.monotonic() < self._next_beat:
            return True
        self._next_beat = time.monotonic() + self._options.heartbeat_seconds
        held = lease is None or self._database.queue.heartbeat(lease, self._options.lease_seconds)
        self._database.workers.beat(self.id, self._options.lease_seconds)
        for job in self._database.queue.reap():
            log.warning("its worker is gone", extra={"job": job})
        days = self._options.retention_days
        if days is not None and time.monotonic() >= self._next_expiry:
            self._next_expiry = time.monotonic() + EXPIRE_SECONDS
            for job in self._database.queue.expire(days):
                log.info("deleted: finished more than %g days ago", days, extra={"job": job})
        return held

    def _reaching(self, call: Callable[[], Result]) -> Result | None:
        """What ``call`` returns; None where the database cannot be reached now."""
        try:
            found = call()
        except UnavailableError as error:
            if not self._away:
                log.warning("%s", error)
            self._away = True
            return None
        self._away = False
        return found
