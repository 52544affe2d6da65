"""A worker and the process of an attempt in which a formula stands in for the model, so that neither loads torch.

``stand_in.py worker URL LABEL``: a worker as ``autokv worker`` runs it; settings come from the environment.
``stand_in.py attempt``: what that worker starts for a job. The job's model says how it behaves:

* ``steady``: stores a trial every few hundredths of a second, in batches, and stops between batches when asked to;
* ``crashing``: ends by a signal of its own before it has stored anything;
* ``deaf``: says that it is there, and then neither works nor listens.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from autokv import settings
from autokv.config import CompressionConfig
from autokv.errors import LeaseLostError
from autokv.hardware.catalog import sheets
from autokv.jobs.child import ENDED, Order
from autokv.jobs.leash import end_with_parent, read_line
from autokv.jobs.probing import Probed
from autokv.jobs.worker import Worker, WorkerOptions
from autokv.storage import Database
from autokv.tuning.trial import TrialRecord, TuningResult

PROFILE = sheets()["l4"].profile()
TRIAL_SECONDS = 0.03
CONFIG = CompressionConfig.parse({"pipeline": {}})


def work(url: str, options: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    chosen = settings.current()
    common = {"lease_seconds": chosen.lease_seconds, "heartbeat_seconds": chosen.heartbeat_seconds}
    with Database(url) as database:
        worker_options = WorkerOptions(**{**common, **json.loads(options)})
        Worker(database, Probed("cpu", PROFILE), worker_options, [sys.executable, "-P", __file__, "attempt"]).run()


def attempt() -> int:
    order = Order.parse(read_line())
    end_with_parent()
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    with Database(order.database) as database:
        job = database.jobs.find(order.lease.job_id)
        try:
            {"steady": steady, "crashing": crashing, "deaf": deaf}[job.request.model](database, order, asked.is_set)
        except LeaseLostError as error:
            print(error)
    return ENDED


def steady(database: Database, order: Order, asked: Callable[[], bool]) -> None:
    job = database.jobs.find(order.lease.job_id)
    number = job.trials
    while number < job.request.trials:
        if asked():
            database.queue.release(order.lease, "asked to stop")
            return
        for _ in range(min(job.request.batch_size, job.request.trials - number)):
            time.sleep(TRIAL_SECONDS)
            record = TrialRecord(
                number, "failed", {}, f"attempt {order.lease.attempt}", CONFIG, None, "a stand-in", 0.0
            )
            database.trials.add(job.id, record, lease=order.lease)
            number += 1
    result = TuningResult(
        objectives=job.request.objectives,
        trials=tuple(database.trials.of(job.id)),
        front=[],
        recommended=None,
        named={},
        reason="a stand-in recommends nothing",
        hypervolume=(),
        importance={},
        stopped_by="trials",
    )
    database.results.save(job.id, result, lease=order.lease)


def crashing(database: Database, order: Order, asked: Callable[[], bool]) -> None:
    print("about to fall", flush=True)
    os.kill(os.getpid(), signal.SIGABRT)


def deaf(database: Database, order: Order, asked: Callable[[], bool]) -> None:
    database.queue.message(order.lease, "deaf")
    while True:
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(work(*sys.argv[2:]) if sys.argv[1] == "worker" else attempt())
