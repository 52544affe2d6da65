"""Jobs of the service with a real model, run by ``autokv worker``."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autokv.hardware.catalog import sheets
from autokv.jobs.probing import Probed
from autokv.jobs.selector import Selector

if TYPE_CHECKING:
    from tests.jobs.conftest import Workshop

Until = Callable[[str, Callable[[], Any]], Any]
AUTOKV = str(Path(sys.executable).parent / "autokv")
SMALL = {
    "model": "tiny",
    "samples": 2,
    "validation_samples": 2,
    "continuation_tokens": 8,
    "batch_size": 2,
    "tasks": False,
}
GROUPS = {"axis": "token", "group_size": 16}
KEYS, VALUES = {"bits": [2, 4, 8], **GROUPS}, {"bits": [2, 4], **GROUPS}
SPACE = {
    "name": "integers",
    "stages": {"quantization": [{"method": "integer", "key": KEYS, "value": VALUES}]},
}


@pytest.fixture
def served(
    workshop: Workshop,
    tiny_model_folder: Callable[..., Path],
    warm_cache: Path,
    not_nice: dict[str, str],
    tmp_path: Path,
) -> Workshop:
    """A workshop whose workers offer one model, called ``tiny``."""
    shutil.copytree(warm_cache, tmp_path / "cache")
    models = tmp_path / "models"
    shutil.copytree(tiny_model_folder("llama"), models / "tiny")
    workshop.environment |= not_nice | {
        "AUTOKV_MODEL_ROOTS": str(models),
        "AUTOKV_CPU_CACHE_BYTES": "65536",
        "AUTOKV_CACHE_DIR": str(tmp_path / "cache"),
        "AUTOKV_OFFLINE": "true",
    }
    return workshop


def submit(workshop: Workshop, *, trace: str | None = None, prompts: str | None = None, **fields: object) -> str:
    """Submit a job as the API does: what it leaves open is left out of what is kept of it."""
    from autokv.tuning.request import TuningRequest

    asked = {**SMALL, **fields}
    inline = {"space": "inline"} if isinstance(asked.get("space"), dict) else {}
    request = TuningRequest.parse({**asked, **inline})
    job, _ = workshop.database.queue.submit(
        request, submission=asked, selector=Selector().to_json(), trace=trace, prompts=prompts
    )
    return str(job.id)


def test_uploads_become_files_and_a_space_may_be_spelled_out(served: Workshop, tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"{word} " * 30, "completion": "and so on, and on"}) for word in "abcdefgh"]
    stored, _ = served.database.uploads.add("prompts", "../my prompts.jsonl", ["\n".join(lines).encode()], {})
    unknown = submit(served, model="nowhere")
    job = submit(served, prompts=stored.id, space=SPACE, trials=4, objectives=["kl_divergence", "kv_bytes_per_token"])
    worker = served.start([AUTOKV, "worker", "--database", served.url, "--device", "cpu", "--labels", "zone=a"])
    done = served.until(job, "done", "failed")
    assert done.state == "done", done.reason
    assert served.outcomes(job) == ["done"]
    assert done.model is not None
    assert done.versions is not None
    assert done.workload is not None
    assert done.hardware is not None
    assert done.model["layers"]
    assert done.versions["torch"]
    assert done.workload["contexts"]["calibration"]
    assert done.hardware["fingerprint"] == served.database.workers.list()[0].fingerprint
    configs = [record.config for record in served.database.trials.of(job)]
    pipelines = [config.pipeline for config in configs if config is not None]
    assert len(pipelines) == len(configs)
    assert {(one.eviction.method, one.low_rank.method) for one in pipelines} == {("none", "none")}
    assert served.database.configurations.list(job=job)
    # Nobody is told where things lie on the worker's machine.
    told = [str(event.data) for event in served.database.events.of(job)]
    assert [text for text in (*told, str(done.workload), str(done.model)) if str(tmp_path) in text] == []
    assert done.workload["prompts"].endswith("my_prompts.jsonl")
    (kept,) = (tmp_path / "cache" / "uploads" / stored.digest).iterdir()
    assert kept.read_text() == "\n".join(lines)
    refused = served.job(unknown)
    assert (refused.state, served.outcomes(unknown)) == ("failed", ["failed"])
    assert refused.reason is not None
    assert "nowhere" in refused.reason
    assert str(tmp_path) not in refused.reason
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.fixture
def attempt(served: Workshop, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Run an attempt at the job that waits, in this process."""
    from autokv.jobs.attempt import _run
    from autokv.jobs.child import Order
    from autokv.jobs.worker import register
    from autokv.runs.listener import Stop

    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("autokv.hardware.measuring.SECONDS_PER_RATE", 0.001)

    def run() -> None:
        probed = Probed("cpu", sheets()["l4"].profile())
        claim = served.database.queue.claim(register(served.database, probed, 3600), lambda _: True, 3600)
        assert claim is not None
        order = Order(served.url, claim.lease, probed.device)
        _run(served.database, order, Stop(threading.Event(), patient=True))

    return run


def test_a_workload_decides_what_a_submission_leaves_open(served: Workshop, attempt: Callable[[], None]) -> None:
    rows = "".join(f"2023-11-16 18:17:{second:02}.1234567,{100 + 2 * second},20\n" for second in range(20))
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows
    trace, _ = served.database.uploads.add("trace", "azure.csv", [text.encode()], {})
    fields: dict[str, Any] = {"trials": 2, "scenario": "data-center", "kv_memory": 120_000, "slo": {"ttft_ms": 5000}}
    job = submit(served, workload=trace.id, trace=trace.id, **fields)
    attempt()
    done = served.job(job)
    assert done.state == "done", done.reason
    assert done.request.space == "throughput"
    assert done.request.objectives == ("kl_divergence", "goodput_requests_per_s", "concurrent_requests")
    assert done.request.workload == trace.id
    assert done.workload is not None
    assert done.workload["trace"] == "azure"
    assert done.workload["serving"]["requests"] == 20


def test_an_attempt_goes_on_where_others_stopped_and_were_killed(served: Workshop, until: Until) -> None:
    job = submit(served, trials=40, context_tokens=64, sampler="random", batch_size=4)
    command = [AUTOKV, "worker", "--database", served.url, "--device", "cpu"]
    drained = served.start(command)
    served.until_stored(job, 1)
    drained.signal(signal.SIGTERM)
    assert drained.wait() == 0
    released = served.job(job)
    ran = [record for record in served.database.trials.of(job) if record.state != "infeasible"]
    assert (released.state, served.outcomes(job)) == ("queued", ["released"])
    assert len(ran) % 4 == 0
    assert released.workload is not None
    contexts = released.workload["contexts"]
    worker = served.start(command)
    served.until_stored(job, released.trials + 1)
    worker.child().kill()
    until("a third attempt", lambda: served.job(job).attempts == 3)
    done = served.until(job, "done", "failed")
    assert served.outcomes(job) == ["released", "crashed", "done"]
    assert done.workload is not None
    assert done.workload["contexts"] == contexts
    trials = served.database.trials.of(job)
    assert [record.number for record in trials] == list(range(len(trials)))
    assert sum(record.state != "infeasible" for record in trials) == 40
    result = served.database.results.of(job)
    assert result is not None
    assert result.trials == trials
