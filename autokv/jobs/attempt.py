"""One attempt at a job: in the process of a command, or in one of its own, ``python -m autokv.jobs.attempt``.

The latter reads an :class:`~autokv.jobs.child.Order` from its standard input, which the worker keeps open: when that
ends, the worker is gone, and so is this process, at once. SIGTERM asks it to stop after the batch of trials that runs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Self

from autokv.errors import AutoKVError, Interrupted, LeaseLostError, UnavailableError
from autokv.jobs.child import AWAY, ENDED, Order
from autokv.jobs.leash import end_with_parent, read_line
from autokv.storage import Database, Lease

if TYPE_CHECKING:
    from types import TracebackType

    from autokv.runs.listener import Listener, Stop
    from autokv.runs.preparing import PreparedRun
    from autokv.runs.searching import MakeExecutor
    from autokv.tuning.search import Progress
    from autokv.tuning.trial import TrialRecord

NICENESS = 10
"""A server on the same machine answers first."""


class JobRun:
    """A block that runs a claimed job, and stores how that ends where no result does: an error fails the job, a stop
    gives it back. Whatever else ends the block is a crash, which others find out.

    ``shown`` says in a reason what people call the paths in it.
    """

    def __init__(self, database: Database, lease: Lease) -> None:
        self.job = database.jobs.find(lease.job_id)
        self.shown: Callable[[str], str] = str
        self._database, self._lease = database, lease

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Interrupted | KeyboardInterrupt):
            self._database.queue.release(self._lease, "stopped before it had finished")
        elif isinstance(error, AutoKVError) and not isinstance(error, LeaseLostError | UnavailableError):
            self._database.queue.fail(self._lease, self.shown(str(error)))

    def carry_out(self, prepared: PreparedRun, listener: Listener, stop: Stop, make_executor: MakeExecutor) -> None:
        """Run the job to its end; the first attempt stores what it runs on."""
        from autokv.jobs.inputs import DECIDED
        from autokv.runs.searching import run_job

        if self.job.model is None:
            asked, facts = self.job.request, prepared.facts
            facts["model"]["source"] = asked.model
            facts["workload"]["prompts"] = self.shown(facts["workload"]["prompts"])
            decided = {name: getattr(prepared.request, name) for name in DECIDED}
            self._database.queue.describe(self._lease, request=asked.model_copy(update=decided), **facts)
            self.job = self._database.jobs.find(self.job.id)
        run_job(self._database, self.job, prepared, self._lease, listener, stop, make_executor)


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

    from autokv.runs.listener import Stop

    try:
        with Database(order.database, create=False) as database:
            _run(database, order, Stop(asked, patient=True))
    except UnavailableError as error:
        print(error, flush=True)
        return AWAY
    return ENDED


def _run(database: Database, order: Order, stop: Stop) -> None:
    from autokv import settings
    from autokv.jobs.inputs import materialise

    try:
        with JobRun(database, order.lease) as run:
            inputs = materialise(run.job, database, settings.current(), order.device)
            run.shown = inputs.shown
            # What is not here is said before torch and transformers are loaded.
            from autokv.runs.preparing import plan_of, prepare_run

            reporter = Reporter(database, order.lease, inputs.shown, inputs.request.trials)
            prepared = prepare_run(
                inputs.request,
                database.kernel_times,
                reporter,
                stop,
                plan=plan_of(run.job),
                space=inputs.space,
                target=inputs.target,
            )
            run.carry_out(prepared, reporter, stop, _make_executor(order))
    except UnavailableError:
        raise
    except AutoKVError as error:
        print(error, flush=True)


def _make_executor(order: Order) -> MakeExecutor:
    if order.executor == "ray":
        from autokv.runs.executors.ray_actors import RayExecutor

        return partial(RayExecutor, devices=order.devices)
    from autokv.runs.searching import local_executor

    return local_executor


if __name__ == "__main__":
    sys.exit(main())
