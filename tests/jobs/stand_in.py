"""A worker and the process of an attempt in which a formula stands in for the model, so that neither loads torch.

``stand_in.py worker URL LABEL``: a worker as ``autokv worker`` runs it; settings come from the environment.
``stand_in.py autokv.jobs.attempt``: what that worker starts for a job. The job's model says how it behaves:

* ``steady``: stores a trial every few hundredths of a second, in batches, and stops between batches when asked to;
  then a result, which recommends what came out best;
* ``crashing``: ends by a signal of its own before it has stored anything;
* ``deaf``: says that it is there, and then neither works nor listens;
* any other: as ``steady``, and slower.
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
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import LeaseLostError, UnavailableError
from autokv.evaluation.measurement import Measurement
from autokv.hardware.catalog import sheets
from autokv.jobs.child import AWAY, ENDED, Order
from autokv.jobs.leash import end_with_parent, read_line
from autokv.jobs.probing import Probed
from autokv.jobs.worker import Worker, WorkerOptions
from autokv.storage import Database
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

ATTEMPT = "autokv.jobs.attempt"
PROFILE = sheets()["l4"].profile()
TRIAL_SECONDS, SLOW_TRIAL_SECONDS = 0.03, 0.2


def work(url: str, options: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    chosen = settings.current()
    common = {"lease_seconds": chosen.lease_seconds, "heartbeat_seconds": chosen.heartbeat_seconds}
    with Database(url) as database:
        worker_options = WorkerOptions(**{**common, **json.loads(options)})
        Worker(database, Probed("cpu", PROFILE), worker_options, [sys.executable, "-P", __file__, ATTEMPT]).run()


def attempt() -> int:
    order = Order.parse(read_line())
    end_with_parent()
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        with Database(order.database) as database:
            model = database.jobs.find(order.lease.job_id).request.model
            {"steady": steady, "crashing": crashing, "deaf": deaf}.get(model, slow)(database, order, asked.is_set)
    except LeaseLostError as error:
        print(error)
    except UnavailableError as error:
        print(error)
        return AWAY
    return ENDED


def steady(database: Database, order: Order, asked: Callable[[], bool], trial_seconds: float = TRIAL_SECONDS) -> None:
    job = database.jobs.find(order.lease.job_id)
    if job.model is None:
        facts = {"name": job.request.model}
        database.queue.describe(order.lease, model=facts, hardware={}, workload={}, versions={})
    number = job.trials
    while number < job.request.trials:
        if asked():
            database.queue.release(order.lease, "asked to stop")
            return
        for _ in range(min(job.request.batch_size, job.request.trials - number)):
            time.sleep(trial_seconds)
            database.trials.add(job.id, judged(number, order.lease.attempt), lease=order.lease)
            number += 1
    trials = database.trials.of(job.id)
    points = [FrontPoint(one.number, one.source, one.measurement, None, True) for one in trials if one.measurement]
    best = min(points, key=lambda point: point.calibration.value("kl_divergence"))
    config = best.calibration.config
    result = TuningResult(
        objectives=job.request.objectives,
        trials=trials,
        front=[best],
        recommended=config.digest,
        named={},
        reason="a formula says so",
        hypervolume=(),
        importance={},
        stopped_by="trials",
    )
    document = ConfigurationDocument(pipeline=config.pipeline, model=job.model or {}, provenance={"job": job.id})
    database.results.save(job.id, result, [document], lease=order.lease)


def judged(number: int, attempt: int) -> TrialRecord:
    """Of the numbers up to 97 none is like another; 50 is the best."""
    keep = (1 + 50 * number % 97) / 100
    config = CompressionConfig.parse({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": keep}}})
    sample = {"kl_divergence": abs(keep - 0.5), "kv_bytes_per_token": 100 * keep, "attention_us": 10 * keep}
    measurement = Measurement.of_samples(config, [{"id": "text-0", "kind": "text", "context_tokens": 96, **sample}])
    return TrialRecord(number, "complete", {"keep": keep}, f"attempt {attempt}", config, measurement, None, 0.0)


def slow(database: Database, order: Order, asked: Callable[[], bool]) -> None:
    steady(database, order, asked, SLOW_TRIAL_SECONDS)


def crashing(database: Database, order: Order, asked: Callable[[], bool]) -> None:
    print("about to fall", flush=True)
    os.kill(os.getpid(), signal.SIGABRT)


def deaf(database: Database, order: Order, asked: Callable[[], bool]) -> None:
    database.queue.message(order.lease, "deaf")
    while True:
        time.sleep(1)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work(*sys.argv[2:])
    else:
        sys.exit(attempt())
