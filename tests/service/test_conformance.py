"""The whole API against its own description: no answer is a 5xx, and every answer is one that the description has."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.engine import events, from_schema

import autokv.hardware
from autokv.api.app import create_app
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import LeaseLostError
from autokv.evaluation.measurement import Measurement
from autokv.hardware import catalog
from autokv.jobs.selector import Selector
from autokv.storage import Database
from autokv.storage.queue import Claim
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult
from autokv.wire import UploadKind

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "4"))
"""Per operation and phase; more of them find more, in more time."""
METRICS = ("kl_divergence", "kv_bytes_per_token", "attention_us")
TRACE = b"arrival_time,num_prefill_tokens,num_decode_tokens\n0.0,100,20\n0.5,200,30\n1.5,150,25\n"
SHEET = (Path(autokv.hardware.__file__).parent / "catalog" / "l4.yaml").read_bytes()
ANY_WORKER = Selector(None, {}).to_json()
PROMPTS = b'{"prompt": "Once upon a time", "completion": " there was"}\n{"prompt": "The end"}\n'


class StandIn(threading.Thread):
    """A worker without a model: it ends every job at once, so that no stream and no wait stays open."""

    def __init__(self, url: str) -> None:
        super().__init__(name="stand-in", daemon=True)
        self._url, self._ending = url, threading.Event()

    def run(self) -> None:
        with Database(self._url) as database:
            profile = catalog.sheets()["l4"].profile()
            worker = database.workers.register(
                host="here",
                process=os.getpid(),
                device="cpu",
                labels={"zone": "a"},
                profile={**profile.to_dict(), "fingerprint": profile.fingerprint},
                versions={"autokv": "1"},
                seconds=600,
            )
            count = 0
            while not self._ending.is_set():
                claim = database.queue.claim(worker, lambda _: True, 600)
                if claim is None:
                    self._ending.wait(0.02)
                    continue
                count += 1
                with suppress(LeaseLostError):  # it was cancelled meanwhile
                    if count % 5:
                        finish(database, claim)
                    else:
                        database.queue.fail(claim.lease, "the model cannot be loaded")

    def end(self) -> None:
        self._ending.set()
        self.join()


def finish(database: Database, claim: Claim) -> None:
    """What a search leaves behind, made up: two trials, and a front of one of them."""
    job, lease = claim.job, claim.lease
    facts = {"name": job.request.model}
    database.queue.describe(lease, model=facts, hardware={"name": "L4"}, workload={}, versions={"autokv": "1"})
    database.queue.message(lease, "loading")
    config = CompressionConfig.parse({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": 0.5}}})
    sample = {"id": "text-0", "kind": "text", "context_tokens": 64, **dict.fromkeys(METRICS, 0.5)}
    measurement = Measurement.of_samples(config, [sample])
    first = len(database.trials.of(job.id))
    records = [
        TrialRecord(first, "complete", {"keep": 0.5}, "tpe", config, measurement, None, 0.5),
        TrialRecord(first + 1, "infeasible", {"keep": 0.1}, "tpe", config, None, "too large", 0.0),
    ]
    for record in records:
        database.trials.add(job.id, record, lease=lease)
    database.queue.progress(lease, {"phase": "searching", "trials_done": 2, "trials_total": 2})
    point = FrontPoint(first, "tpe", measurement, measurement, True)
    result = TuningResult(
        objectives=METRICS,
        trials=database.trials.of(job.id),
        front=[point],
        recommended=config.digest,
        named={"smallest": config.digest},
        reason="the smallest",
        hypervolume=[0.5] * (first + 2),
        importance={},
    )
    document = ConfigurationDocument(pipeline=config.pipeline, model=facts, provenance={"job": job.id})
    database.results.save(job.id, result, [document], lease=lease)


@dataclass(frozen=True)
class Seeded:
    """A database of which every kind of thing is there already."""

    url: str
    known: dict[str, list[str]]
    """Place and name of a parameter, or a resource, to values that mean something: one made up would find nothing."""


@pytest.fixture
def seeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seeded]:
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path / "cache"))
    url = f"sqlite:///{tmp_path / 'autokv.db'}"
    stand_in = StandIn(url)
    with Database(url) as database:
        jobs = [submit(database, number) for number in range(12)]
        for job_id in jobs[::3]:
            database.queue.cancel(job_id, "not wanted")
        stand_in.start()
        yield Seeded(url, seed(database, jobs))
        stand_in.end()


def submit(database: Database, number: int) -> str:
    request, submission = TuningRequest(model="tiny", seed=number), {"model": "tiny", "seed": number}
    return database.queue.submit(request, submission=submission, selector=ANY_WORKER)[0].id


def seed(database: Database, jobs: list[str]) -> dict[str, list[str]]:
    """Wait for the end of ``jobs``, and add the rest."""
    while any(database.jobs.get(job_id).state in {"queued", "running"} for job_id in jobs):
        time.sleep(0.02)
    configurations = [one.id for one in database.configurations.page(limit=20)[0]]
    names = [f"chat-{number}" for number in range(6)]
    for name in names:
        database.aliases.create(name, configurations[0])
        database.aliases.move(name, configurations[1], "better", 1)
    contents: dict[UploadKind, bytes] = {"trace": TRACE, "prompts": PROMPTS}
    uploads = {
        kind: [database.uploads.add(kind, f"{number}", [data, b"\n" * number], {})[0].id for number in range(8)]
        for kind, data in contents.items()
    }
    profiles = []
    for cores in range(1, 4):
        document = {**catalog.sheets()["a10"].profile().to_dict(), "cores": cores}
        profiles.append(database.profiles.add(document, f"mine-{cores}", "uploaded")[0].id)
    return {
        "path.job_id": jobs,
        "path.key": configurations,
        "path.name": names,
        "traces": uploads["trace"],
        "prompts": uploads["prompts"],
        "path.profile_id": ["l4", *profiles],
        "path.worker_id": [one.id for one in database.workers.list()],
        "header.If-Match": ['"2"', '"3"', "*"],
        "body.configuration": configurations,
    }


def test_every_answer_is_as_described(seeded: Seeded) -> None:
    for media, data in {"octet-stream": TRACE, "x-ndjson": PROMPTS, "yaml": SHEET}.items():
        schemathesis.openapi.media_type(f"application/{media}", st.just(data) | st.binary(max_size=64))
    config = schemathesis.Config.from_dict(
        {
            "seed": 1,
            "max-stream-events": 1000,
            "dictionaries": {name: {"values": values} for name, values in seeded.known.items()},
            "parameters": {name: {"dictionary": name, "probability": 0.7} for name in seeded.known if "." in name},
            "generation": {"max-examples": EXAMPLES, "no-shrink": True, "deterministic": True, "database": "none"},
            "phases": {"stateful": {"generation": {"max-examples": 10 * EXAMPLES}}},
            "checks": {
                # What a description cannot say: which metrics, uploads and cursors there are, and what goes with what.
                "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", "404", "409", "412", "422", "428"]},
            },
            "operations": [
                # A job that was just made has neither yet.
                *(
                    {
                        "include-name": f"GET /v1/jobs/{{job_id}}/{name}",
                        "checks": {"ensure_resource_availability": {"enabled": False}},
                    }
                    for name in ("front", "report.html")
                ),
                *(
                    {
                        "include-path-regex": f"/v1/{name}/",
                        "parameters": {"path.upload_id": {"dictionary": name, "probability": 0.7}},
                    }
                    for name in ("traces", "prompts")
                ),
                # Few of many bodies and headers fit.
                *(
                    {"include-name": name, "generation": {"max-examples": 10 * EXAMPLES}}
                    for name in (
                        "POST /v1/traces",
                        "POST /v1/prompts",
                        "GET /v1/configurations/{key}/export",
                        "PUT /v1/aliases/{name}",
                        "DELETE /v1/aliases/{name}",
                    )
                ),
            ],
            "warnings": False,
        }
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(seeded.url), config=config)
    problems: list[str] = []
    answered: Counter[tuple[str, int]] = Counter()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            problems.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            problems += failures(event)
            for case_id, interaction in event.recorder.interactions.items():
                if interaction.response is not None:
                    label = event.recorder.cases[case_id].value.operation.label
                    answered[label, interaction.response.status_code] += 1
    for (label, status), count in sorted(answered.items()):
        print(f"{label}: {count} of {status}")
    assert not problems, "\n\n".join([f"{len(problems)} problems", *problems[:20]])
    read = list(schema.get_all_operations())
    operations = {result.ok().label for result in read if isinstance(result, Ok)}
    assert len(operations) == len(read), "an operation cannot be read"
    assert operations - {label for label, status in answered if status < 300} == set()


def failures(event: events.ScenarioFinished) -> list[str]:
    """Every check that failed, with what was sent and what came back."""
    told = []
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            if check.failure_info is None:
                continue
            failure, sent = check.failure_info.failure, check.failure_info.code_sample
            answer = event.recorder.interactions[case_id].response
            came = "nothing" if answer is None else f"{answer.status_code} {answer.content[:600]!r}"
            told.append(f"{event.label} ({event.phase.value}): {failure}\n{sent}\n{came}")
    return told
