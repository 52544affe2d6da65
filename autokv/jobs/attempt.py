"""One attempt at a job, in a process of its own: ``python -m autokv.jobs.attempt``.

It reads an :class:`~autokv.jobs.order.Order` from its standard input, which the worker keeps open: when that ends, the
worker is gone, and so is this process, at once. SIGTERM asks it to stop after the batch of trials that runs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from autokv.jobs.leash import end_with_parent, read_line
from autokv.jobs.order import AWAY, ENDED, Order

if TYPE_CHECKING:
    from autokv.jobs.listener import Stop
    from autokv.jobs.searching import MakeExecutor
    from autokv.storage import Database, Lease
    from autokv.tuning.search import Progress
    from autokv.tuning.trial import TrialRecord

NICENESS = 10
"""A server on the same machine answers first."""


class Reporter:
    """Tells the followers of a job how its run goes."""

    def __init__(self, database: Database, lease: Lease, shown: Callable[[str], str], trials: int) -> None:
        self._queue, self._lease, self._shown = database.queue, lease, shown
        self._progress: dict[str, object] = {"trials_done": 0, "trials_total": trials}

    def say(self, text: str) -> None:
        """A line for the followers, and for the worker's log."""
        line = self._shown(text)
        print(line, flush=True)
        self._queue.message(self._lease, line)
        self._queue.progress(self._lease, {**self._progress, "phase": line})

    def trial(self, record: TrialRecord) -> None:
        """Storing it has told of it."""

    def batch(self, progress: Progress) -> None:
        """Where the search stands."""
        self._progress = asdict(progress)
        self._queue.progress(self._lease, {**self._progress, "phase": "searching"})


def main() -> int:
    """Run the attempt that the worker orders; returns the exit code."""
    order = Order.parse(read_line())
    end_with_parent()
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)

    from autokv.errors import LeaseLostError, UnavailableError
    from autokv.jobs.listener import Stop
    from autokv.storage import Database

    try:
        with Database(order.database, create=False) as database:
            _run(database, order, Stop(asked, patient=True))
    except LeaseLostError as error:
        print(error, flush=True)
    except UnavailableError as error:
        print(error, flush=True)
        return AWAY
    return ENDED


def _run(database: Database, order: Order, stop: Stop) -> None:
    """Run the job to its end, or until something ends the attempt, and store which."""
    from autokv import settings
    from autokv.errors import AutoKVError, Interrupted, LeaseLostError, UnavailableError
    from autokv.jobs.inputs import DECIDED, materialise

    lease = order.lease
    shown: Callable[[str], str] = str
    try:
        job = database.jobs.find(order.job)
        inputs = materialise(job, database, settings.current(), order.device)
        shown = inputs.shown
        # What is not here is said before torch and transformers are loaded.
        from autokv.jobs.preparing import plan_of, prepare
        from autokv.jobs.searching import run_job

        reporter = Reporter(database, lease, shown, inputs.request.trials)
        prepared = prepare(
            inputs.request,
            database.kernel_times,
            reporter,
            stop,
            plan=plan_of(job),
            space=inputs.space,
            target=inputs.target,
        )
        if job.model is None:
            facts = prepared.facts
            facts["model"]["source"] = job.request.model
            facts["workload"]["prompts"] = shown(facts["workload"]["prompts"])
            decided = {name: getattr(prepared.request, name) for name in DECIDED}
            database.queue.describe(lease, request=job.request.model_copy(update=decided), **facts)
            job = database.jobs.find(job.id)
        run_job(database, job, prepared, lease, reporter, stop, _make_executor(order))
    except Interrupted:
        database.queue.release(lease, "the worker was asked to stop")
    except (LeaseLostError, UnavailableError):
        raise
    except AutoKVError as error:
        reason = shown(str(error))
        print(f"error: {reason}", flush=True)
        database.queue.fail(lease, reason)


def _make_executor(order: Order) -> MakeExecutor:
    if order.executor == "ray":
        from autokv.jobs.executors.ray_actors import RayExecutor

        return partial(RayExecutor, devices=order.devices)
    from autokv.jobs.searching import local_executor

    return local_executor


if __name__ == "__main__":
    sys.exit(main())
