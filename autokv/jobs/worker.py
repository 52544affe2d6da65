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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Literal, TypeVar

from autokv.errors import LeaseLostError, UnavailableError
from autokv.jobs.child import Child
from autokv.jobs.order import AWAY, ENDED, Order
from autokv.jobs.probing import Probed
from autokv.jobs.selector import Selector
from autokv.jobs.versions import versions
from autokv.storage import Database, Lease
from autokv.storage.lease import this_host
from autokv.storage.queue import Claim

log = logging.getLogger("autokv.worker")

POLL_SECONDS = 0.5
"""Between two looks into an empty queue."""
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


class Worker:
    """Works until it is asked to stop, once to finish the batch of trials that runs, twice to stop at once.

    Args:
        database: where jobs are.
        probed: the worker's device.
        options: how it works.
    """

    def __init__(self, database: Database, probed: Probed, options: WorkerOptions) -> None:
        self._database, self._probed, self._options = database, probed, options
        # Signal handlers and threads put into it; unlike an event's, its lock may be held by the interrupted code.
        self._mail: SimpleQueue[Mail] = SimpleQueue()
        self._draining = self._away = False
        self._next_beat = self._next_expiry = 0.0
        self.id = database.workers.register(
            host=this_host(),
            process=os.getpid(),
            device=probed.device,
            labels=options.labels,
            profile=probed.profile.to_dict(),
            versions=versions(),
            seconds=options.lease_seconds,
        )

    def run(self) -> None:
        """Claim and run jobs until a signal says stop; SIGTERM and SIGINT, in the main thread."""
        log.info("worker %s is ready: %s (%s)", self.id, self._probed.device, self._probed.profile.name)
        with _signals(lambda: self._mail.put("signal")):
            while not self._draining:
                claim = self._reaching(self._claim)
                if claim is not None:
                    self._attempt(claim)
                elif not self._options.once:
                    self._look_into_mail(POLL_SECONDS)
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
        order = Order(
            self._database.url,
            lease.job_id,
            lease.owner,
            lease.attempt,
            self._probed.device,
            options.executor,
            options.devices,
        )
        child = Child(order, lambda: self._mail.put("exited"))
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
            mail = self._look_into_mail(max(0.0, min(self._next_beat, last_moment) - time.monotonic()))
            if mail == "signal" or time.monotonic() >= last_moment:
                if ended_by != "itself":
                    child.kill()
                    break
                child.stop()
                ended_by, last_moment = "signal", time.monotonic() + self._options.drain_seconds
                self._reaching(lambda: self._database.workers.state(self.id, "draining"))
            if time.monotonic() >= self._next_beat and self._reaching(lambda: self._renew(claim)) is False:
                if ended_by == "loss":
                    child.kill()
                    break
                # It has just finished, or the job was cancelled or taken over.
                child.stop()
                ended_by, last_moment = "loss", math.inf
        return ended_by

    def _settle(self, child: Child, lease: Lease, ended_by: End) -> None:
        """Store how an attempt ended whose own process did not."""
        queue = self._database.queue
        try:
            if ended_by == "signal":
                queue.release(lease, "the worker was stopped")
            elif child.code == AWAY:
                queue.release(lease, "the database could not be reached")
            else:
                log.warning("attempt %d: %s", lease.attempt, child.reason, extra={"job": lease.job_id})
                queue.crashed(lease, child.reason)
                # Another worker may have more luck with it.
                self._look_into_mail(self._options.heartbeat_seconds)
        except LeaseLostError as error:
            log.info("%s", error)

    def _renew(self, claim: Claim) -> bool:
        self._beat()
        return self._database.queue.heartbeat(claim.lease, self._options.lease_seconds)

    def _beat(self) -> None:
        """Say that this worker lives, and look after what others left; at most once a heartbeat."""
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + self._options.heartbeat_seconds
        self._database.workers.beat(self.id, self._options.lease_seconds)
        for job in self._database.queue.reap():
            log.warning("its worker is gone", extra={"job": job})
        days = self._options.retention_days
        if days is not None and time.monotonic() >= self._next_expiry:
            self._next_expiry = time.monotonic() + EXPIRE_SECONDS
            for job in self._database.queue.expire(days):
                log.info("deleted: finished more than %g days ago", days, extra={"job": job})

    def _look_into_mail(self, seconds: float) -> Mail | None:
        """Wait for a signal or for the end of a process, at most ``seconds``."""
        try:
            mail = self._mail.get(timeout=seconds)
        except Empty:
            return None
        self._draining = self._draining or mail == "signal"
        return mail

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


@contextmanager
def _signals(tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell`` at every SIGTERM and SIGINT."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: tell()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
