"""Record what a release stores: ``python record.py FOLDER`` with that release's code on the path.

Writes ``<schema>.sql``, a dump of an SQLite database with rows in every table, and ``<schema>.json``, what the release
itself reads from it.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.evaluation.measurement import Measurement
from autokv.storage import Database
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import FrontPoint, StoppedBy, TrialRecord, TrialState, TuningResult

MODEL = {"name": "tiny", "layers": 3, "rope": {"theta": 1e4}}
TIMES: dict[str, dict[str, object]] = {
    "a" * 64: {"stage": {"kind": "eviction"}, "tokens": 64},
    "b" * 64: {"stage": None, "tokens": 128},
}


def measurement(ratio: float, samples: int) -> Measurement:
    config = CompressionConfig.model_validate({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": ratio}}})
    return Measurement.of_samples(
        config,
        [
            {"id": f"text-{index}", "kind": "text", "context_tokens": 512, "kl_divergence": ratio / (index + 3)}
            for index in range(samples)
        ],
    )


def trial(number: int) -> TrialRecord:
    if number % 4 == 3:
        state: TrialState = "failed" if number % 8 == 3 else "infeasible"
        reason = "größer als 'a\udcff\0b'" if number % 8 == 3 else "rank 9 of 8"
        return TrialRecord(number, state, {"keep": math.inf, "group": [math.nan, None]}, "tpe", None, None, reason, 0.5)
    measured = measurement((number + 1) / 10, 2 + number)
    return TrialRecord(number, "complete", {"keep": number}, "warm", measured.config, measured, None, 1 / (number + 3))


def result(trials: list[TrialRecord], stopped_by: StoppedBy) -> TuningResult:
    front = [
        FrontPoint(one.number, one.source, one.measurement, measurement((one.number + 1) / 10, 5), one.number > 0)
        for one in trials[:2]
        if one.measurement is not None
    ]
    digests = [point.calibration.config.digest for point in front]
    return TuningResult(
        objectives=("kl_divergence", "kv_bytes_per_token"),
        trials=trials,
        front=front,
        recommended=digests[0],
        named={"smallest": digests[0], "fastest": digests[1]},
        reason="the smallest that meets the constraints",
        hypervolume=[0.1, math.inf],
        importance={"kl_divergence": {"keep": 1.0}},
        stopped_by=stopped_by,
    )


def worker(database: Database) -> str:
    return database.workers.register(
        host="elsewhere",
        process=1,
        device="cpu",
        labels={},
        profile={"name": "a device", "fingerprint": "0123456789abcdef"},
        versions={"autokv": "1"},
        seconds=600,
    )


def fill(database: Database) -> None:
    queue, runner = database.queue, worker(database)

    def create(**fields: object) -> str:
        return queue.submit(TuningRequest(**fields))[0].id

    create(model="waiting", text="notes.txt", seed=3)
    runs: tuple[tuple[str, list[StoppedBy]], ...] = (("done", ["trials"]), ("resumed", ["interrupt", "patience"]))
    for name, stops in runs:
        job = create(model=name, maximums={"kl_divergence": 0.1})
        done: list[TrialRecord] = []
        for stop in stops:
            lease = queue.take(runner, job, 600).lease
            queue.describe(
                lease,
                model=MODEL,
                hardware={"device": "cpu"},
                workload={"name": "trace", "lengths": [1, 2]},
                versions={"torch": "2.13"},
            )
            for number in range(len(done), len(done) + 4):
                done.append(trial(number))
                database.trials.add(job, done[-1], lease=lease)
            configs = [one.config for one in done[:2] if one.config is not None]
            documents = [
                ConfigurationDocument(pipeline=config.pipeline, model={"name": name, "stop": stop})
                for config in configs
            ]
            database.results.save(job, result(done, stop), documents, lease=lease)
    queue.fail(queue.take(runner, create(model="failed", tasks=True), 600).lease, "no memory")
    lease = queue.take(runner, create(model="stopped"), 600).lease
    database.trials.add(lease.job_id, trial(0), lease=lease)
    queue.release(lease, "stopped before it had finished")
    queue.take(runner, create(model="left behind"), 600)
    if hasattr(database, "kernel_times"):
        from autokv.evaluation.costs import KernelTime

        for place, (key, document) in enumerate([*TIMES.items(), *TIMES.items()]):
            database.kernel_times.put(key, document, KernelTime(1.5e-7 * place, 2e-9, 5))
    if hasattr(database, "aliases"):
        database.uploads.add("trace", "größer.csv", [b"a,", b"b\n"], {"requests": 2})
        database.profiles.add({"name": "edge", "fingerprint": "0123456789abcdef"}, "edge", "uploaded")
        first, second, *_ = sorted(database.configurations.list(), key=lambda one: one.digest)
        database.aliases.create("chat", first.id, "the first")
        database.aliases.move("chat", second.id, "the second", 1)


def read(database: Database) -> dict[str, Any]:
    """Everything that the repositories say, as JSON; what later versions add is not in it."""
    found: dict[str, Any] = {"jobs": {}}
    for job in database.jobs.list():
        outcome = database.results.of(job.id)
        found["jobs"][job.id] = {
            **{name: getattr(job, name) for name in ("state", "model", "hardware", "workload", "trials", "attempts")},
            **{name: getattr(job, name) for name in ("reason", "stopped_by")},
            "versions": dict(job.versions),
            "request": job.request.model_dump(mode="json"),
            "times": [str(time) for time in (job.created, job.started, job.finished)],
            "stored": [_trial(record) for record in database.trials.of(job.id)],
            "result": None if outcome is None else _result(outcome),
            "configurations": [
                {"digest": one.digest, "roles": list(one.roles), "document": one.document.model_dump(mode="json")}
                for one in database.configurations.list(job=job.id)
            ],
        }
    if hasattr(database, "kernel_times"):
        found["kernel_times"] = {key: str(database.kernel_times.get(key)) for key in TIMES}
    if hasattr(database, "aliases"):
        found["uploads"] = [
            {"name": one.name, "facts": dict(one.facts), "text": b"".join(database.uploads.chunks(one.id)).decode()}
            for one in database.uploads.page("trace")[0]
        ]
        profiles = [vars(one) for one in database.profiles.page()[0]]  # a release calls it `document`
        found["profiles"] = [
            {"name": one["name"], "document": dict(one.get("profile") or one["document"])} for one in profiles
        ]
        found["aliases"] = [
            {
                "name": one.name,
                "revision": one.revision,
                "notes": [move.note for move in database.aliases.history("chat")[0]],
            }
            for one in database.aliases.page()[0]
        ]
    read: dict[str, Any] = json.loads(json.dumps(found))
    return read


def _trial(record: TrialRecord) -> dict[str, Any]:
    return {
        **{name: getattr(record, name) for name in ("number", "state", "source", "reason", "seconds")},
        "params": repr(record.params),
        "config": None if record.config is None else record.config.digest,
        "measurement": None if record.measurement is None else record.measurement.to_dict(),
    }


def _result(outcome: TuningResult) -> dict[str, Any]:
    return {
        **{name: getattr(outcome, name) for name in ("recommended", "named", "reason", "importance", "stopped_by")},
        "objectives": list(outcome.objectives),
        "hypervolume": [str(value) for value in outcome.hypervolume],
        "trials": len(outcome.trials),
        "front": [
            [point.trial, point.source, point.feasible, point.validation and point.validation.to_dict()]
            for point in outcome.front
        ],
    }


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "autokv.db"
        with Database(f"sqlite:///{file}") as database:
            fill(database)
        with closing(sqlite3.connect(file)) as connection:
            # Another machine's process, silent for years: whoever reads this knows that it is gone.
            connection.execute(
                "UPDATE jobs SET owner_host = 'elsewhere', heartbeat_at = '2020-01-01 00:00:00.000000',"
                " lease_until = '2020-01-01 00:00:00.000000' WHERE owner IS NOT NULL"
            )
            connection.commit()
            (schema,) = connection.execute("SELECT version_num FROM autokv_version").fetchone()
            (folder / f"{schema}.sql").write_text("\n".join(connection.iterdump()) + "\n")
        with Database(f"sqlite:///{file}") as database:
            text = json.dumps(read(database), indent=1)
        (folder / f"{schema}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
