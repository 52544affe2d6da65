"""The client against a running server with a real database."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml

from autokv.client import Client, Tuning
from autokv.config import CompressionConfig
from autokv.data import example_trace
from autokv.errors import (
    ConflictError,
    KeyReusedError,
    NotFoundError,
    PreconditionError,
    RequestError,
    ServerError,
)
from autokv.wire import Event, JobSubmission

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedWorker, Server

JOB: dict[str, Any] = {"model": "tiny", "trials": 3}


def recommended(tuning: Tuning) -> str:
    """Id of the configuration that an ended job recommends."""
    found = tuning.job().recommended
    assert found is not None
    return found


def test_a_job_from_its_submission_to_its_configuration(client: Client, worker: ScriptedWorker, tmp_path: Path) -> None:
    tuning = client.tune(**JOB, workload=example_trace(), rate=1.0)
    (trace,) = client.traces.list()
    submitted = tuning.job()
    assert (submitted.state, submitted.queue and submitted.queue.position) == ("queued", 1)
    assert submitted.submission == JobSubmission(**JOB, workload=trace.id, rate=1.0)
    with pytest.raises(NotFoundError, match="recommends no configuration"):
        tuning.configuration()

    seen: list[Event] = []
    waiting = threading.Thread(target=lambda: tuning.wait(seen.append))
    waiting.start()
    worker.claim()
    worker.finish()
    waiting.join()
    assert [event.kind for event in seen] == ["queued", "started", "trial", "trial", "trial", "done"]
    assert [event.number for event in seen] == list(range(1, 7))
    job = tuning.wait()
    assert (job.state, job.trials, len(job.attempts)) == ("done", 3, 1)

    document = tuning.configuration()
    front = tuning.front()
    assert document.digest == front.recommended == front.points[0].digest
    assert [trial.number for trial in client.jobs.trials(tuning.id, limit=2)] == [0, 1, 2]
    assert "<html" in tuning.report()
    assert job.recommended is not None
    for name in ("found.json", "found.yaml"):
        path = client.configurations.download(job.recommended, tmp_path / name)
        loaded = yaml.safe_load(path.read_text())
        assert CompressionConfig.parse({"pipeline": loaded["pipeline"]}).digest == document.digest
    assert client.configurations.get(document.digest).id == job.recommended
    exported = client.configurations.export(document.digest, "llama.cpp")
    assert exported.target == "llama.cpp"
    assert exported.artifacts[0].name == "llama-server.sh"
    (best,) = client.recommendations(model="tiny")
    assert best.configuration.id == job.recommended


def test_the_same_key_is_the_same_job(client: Client) -> None:
    first = client.jobs.submit(JOB, key="nightly")
    assert client.jobs.submit(JobSubmission(**JOB), key="nightly").id == first.id
    with pytest.raises(KeyReusedError):
        client.jobs.submit({**JOB, "seed": 1}, key="nightly")
    assert [job.id for job in client.jobs.list()] == [first.id]
    client.jobs.submit(JOB)
    assert len(list(client.jobs.list())) == 2


def test_a_list_is_read_to_its_end(client: Client) -> None:
    submitted = [client.jobs.submit({**JOB, "seed": seed}).id for seed in range(7)]
    client.jobs.cancel(submitted[0])
    assert [job.id for job in client.jobs.list(limit=2)] == submitted[::-1]
    assert [job.id for job in client.jobs.list(limit=2, state="queued")] == submitted[:0:-1]
    assert len(list(client.jobs.list(limit=2, state=["queued", "cancelled"]))) == 7


def test_cancelling_retrying_and_deleting(client: Client) -> None:
    job = client.jobs.submit(JOB)
    with pytest.raises(ConflictError):
        client.jobs.delete(job.id)
    assert client.jobs.cancel(job.id).state == "cancelled"
    assert client.jobs.cancel(job.id).state == "cancelled"
    assert client.jobs.retry(job.id).state == "queued"
    client.jobs.cancel(job.id)
    client.jobs.delete(job.id)
    with pytest.raises(NotFoundError):
        client.jobs.get(job.id)


def test_validating_stores_nothing(client: Client) -> None:
    told = client.jobs.validate(JOB)
    assert told.request["trials"] == 3
    assert told.workers.ready == 0
    assert list(client.jobs.list()) == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"trials": 0}, "trials"),
        ({"nonsense": 1}, "nonsense"),
        ({"workload": "0" * 32}, "workload"),
        ({"workload": "./missing.csv"}, "workload"),
        ({"prompts": Path("missing.jsonl")}, "prompts"),
        ({"space": "unheard-of"}, "space"),
        ({"hardware": "no-such-gpu", "workload": example_trace()}, "hardware"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(client: Client, fields: dict[str, Any], named: str) -> None:
    with pytest.raises((RequestError, NotFoundError)) as caught:
        client.tune(**{**JOB, **fields})
    assert (caught.value.field or "").startswith(named)
    assert list(client.jobs.list()) == []


def test_files_are_uploaded_once(client: Client, tmp_path: Path) -> None:
    first = client.traces.upload(example_trace())
    assert client.traces.upload(example_trace()).id == first.id
    assert client.traces.get(first.id).facts
    assert client.traces.content(first.id) == example_trace().read_bytes()
    job = client.jobs.submit({**JOB, "workload": first.id})
    with pytest.raises(ConflictError, match=job.id):
        client.traces.delete(first.id)
    broken = tmp_path / "broken.csv"
    broken.write_text("no,trace\n")
    with pytest.raises(RequestError):
        client.traces.upload(broken)
    assert len(list(client.traces.list())) == 1
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "hello"}\n')
    added = client.prompts.upload(prompts, name="mine.jsonl")
    assert added.name == "mine.jsonl"
    client.prompts.delete(added.id)
    assert list(client.prompts.list()) == []


@pytest.mark.parametrize("name", ["hash_block_size", "block_size"])
def test_the_size_of_hashed_blocks_travels_by_both_of_its_names(client: Client, tmp_path: Path, name: str) -> None:
    trace = tmp_path / "hashes.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 64, "output_length": 5, "hash_ids": [1, 2, 3]}\n')
    job = client.jobs.submit(client.uploaded(**JOB, workload=trace, **{name: 24}))
    assert job.submission is not None
    assert job.submission.hash_block_size == 24
    with pytest.raises(RequestError, match="hash"):
        client.uploaded(**JOB, workload=trace, **{name: 32})


def test_hardware_models_and_workers_are_listed(client: Client, worker: ScriptedWorker, tmp_path: Path) -> None:
    (known,) = client.workers.list()
    assert (known.id, known.state) == (worker.id, "ready")
    assert list(client.models.list()) == []
    catalog = [profile for profile in client.hardware.list() if profile.source == "catalog"]
    profile = tmp_path / "mine.yaml"
    profile.write_text(yaml.safe_dump({**catalog[0].profile, "name": "mine"}))
    added = client.hardware.add(profile)
    assert client.hardware.get(added.id).name == "mine"
    client.hardware.delete(added.id)
    with pytest.raises(NotFoundError):
        client.hardware.get(added.id)


def test_an_alias_moves_only_from_where_it_was_read(client: Client, worker: ScriptedWorker, tmp_path: Path) -> None:
    found = []
    for seed in range(2):
        tuning = client.tune(**JOB, seed=seed)
        worker.claim()
        worker.finish()
        found.append(recommended(tuning))
    created = client.aliases.create("chat-prod", found[0], note="first")
    with pytest.raises(PreconditionError):
        client.aliases.create("chat-prod", found[1])
    moved = client.aliases.move("chat-prod", found[1], revision=created.revision)
    with pytest.raises(PreconditionError):
        client.aliases.move("chat-prod", found[0], revision=created.revision)
    back = client.aliases.roll_back("chat-prod", revision=moved.revision)
    assert back.configuration == found[0]
    history = [(move.action, move.configuration) for move in client.aliases.history("chat-prod", limit=1)]
    assert history == [("rolled_back", found[0]), ("moved", found[1]), ("created", found[0])]
    assert client.aliases.configuration("chat-prod").digest == back.digest
    assert yaml.safe_load(client.aliases.download("chat-prod", tmp_path / "c.yaml").read_text())["pipeline"]
    assert [alias.name for alias in client.aliases.list()] == ["chat-prod"]
    client.aliases.delete("chat-prod", revision=back.revision)
    with pytest.raises(NotFoundError):
        client.aliases.get("chat-prod")


class Recorder(httpx2.HTTPTransport):
    """A network connection that keeps the statuses of what it brought, and its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[int, int]] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        response.read()
        self.answers.append((response.status_code, len(response.content)))
        return response


def test_what_has_not_changed_does_not_travel_again(server: Server, worker: ScriptedWorker) -> None:
    recorder = Recorder()
    with Client(server.url, transport=recorder) as client:
        tuning = client.tune(**JOB)
        worker.claim()
        worker.finish()
        alias = client.aliases.create("prod", recommended(tuning))
        first = client.aliases.configuration("prod")
        assert client.aliases.configuration("prod") == first
        assert recorder.answers[-1] == (304, 0)
        other = client.tune(**JOB, seed=1)
        worker.claim()
        worker.finish()
        client.aliases.move("prod", recommended(other), revision=alias.revision)
        assert client.aliases.configuration("prod").provenance == first.provenance
        assert recorder.answers[-1][0] == 200


def test_a_stream_goes_on_over_a_restart_of_the_server(client: Client, server: Server, worker: ScriptedWorker) -> None:
    tuning = client.tune(**JOB)
    seen: list[Event] = []
    begun, stopped = threading.Event(), threading.Event()

    def tell(event: Event) -> None:
        seen.append(event)
        if event.kind == "trial":
            begun.set()
            stopped.wait(60)

    waiting = threading.Thread(target=lambda: tuning.wait(tell))
    waiting.start()
    worker.claim()
    worker.trial(0)
    assert begun.wait(60)
    server.stop()
    stopped.set()
    worker.trial(1)
    server.start()
    worker.database.queue.fail(worker.lease, "made up")
    waiting.join(120)
    assert [(event.number, event.kind) for event in seen] == [
        (1, "queued"),
        (2, "started"),
        (3, "trial"),
        (4, "trial"),
        (5, "failed"),
    ]


def test_waiting_has_an_end_where_one_is_asked_for(client: Client) -> None:
    tuning = client.tune(**JOB)
    with pytest.raises(TimeoutError):
        tuning.wait(timeout=0.2)
    assert tuning.cancel().state == "cancelled"
    assert tuning.wait(timeout=60).state == "cancelled"


def test_following_gives_up_when_the_server_stays_away(server: Server) -> None:
    with Client(server.url, patience=0.2) as client:
        tuning = client.tune(**JOB)
        events = tuning.events()
        assert next(events).kind == "queued"
        server.stop()
        with pytest.raises(ServerError):
            next(events)


def test_a_deleted_job_ends_its_stream(client: Client) -> None:
    tuning = client.tune(**JOB)
    events = tuning.events()
    assert next(events).kind == "queued"
    tuning.cancel()
    assert next(events).kind == "cancelled"
    assert list(events) == []
    client.jobs.delete(tuning.id)
    with pytest.raises(NotFoundError):
        list(tuning.events())


def test_waiting_on_the_server(client: Client, worker: ScriptedWorker) -> None:
    job = client.jobs.submit(JOB)

    def work() -> None:
        worker.claim()
        worker.finish()

    threading.Timer(0.3, work).start()
    assert client.jobs.get(job.id, wait=60).state == "done"
    assert client.jobs.submit(JOB, wait=1).state == "queued"


def test_the_clients_clock_is_monotonic(client: Client) -> None:
    tuning = client.tune(**JOB)
    with pytest.raises(TimeoutError):
        list(client.jobs.events(tuning.id, deadline=time.monotonic()))
