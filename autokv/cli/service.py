"""``autokv serve`` and ``autokv worker``: the HTTP API, and what runs its jobs."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from autokv import settings
from autokv.cli.tables import DatabaseOption, DeviceOption
from autokv.errors import RequestError

PORT = 8765
DRAIN_SECONDS = 60.0
REST_SECONDS = 15.0
"""For a worker to give back what it holds, once it has stopped."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; there is no authentication yet.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = PORT,
    database: DatabaseOption = None,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Workers to run here; 0 serves the API alone.")] = 1,
    device: Annotated[
        list[str] | None, typer.Option(help="Device of a worker: auto, cpu, cuda or cuda:N; repeat for several.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Labels of the workers, such as zone=a,tier=b.")] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds for workers to finish their batch when stopped.")
    ] = DRAIN_SECONDS,
    ready_file: Annotated[
        Path | None, typer.Option(help="File for the address, as JSON, written once the server is ready.")
    ] = None,
) -> None:
    """Serve the HTTP API, with workers that run its jobs.

    Ctrl-C or SIGTERM stops the server and its workers.
    """
    from autokv.cli.options import label_map
    from autokv.cli.processes import Supervisor
    from autokv.cli.server import listen, run
    from autokv.files import write_atomic
    from autokv.storage import Database

    url = database or settings.current().database_url
    label_map(labels or "", "--labels")
    Database(url).close()
    bound, address = listen(host, port)
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    common = ["--drain-seconds", str(drain_seconds), *(["--labels", labels] if labels else [])]
    devices = device or ["auto"]
    commands = [["worker", "--device", devices[number % len(devices)], *common] for number in range(workers)]
    # On the command line everybody on this machine could read the URL's password.
    supervisor = Supervisor(commands, {f"{settings.PREFIX}DATABASE_URL": url})

    def ready() -> None:
        typer.echo(f"serving {address} with {workers} worker{'' if workers == 1 else 's'}; {address}/docs describes it")
        if ready_file is not None:
            write_atomic(ready_file, json.dumps({"url": address}) + "\n")
        supervisor.start()

    try:
        run(url, bound, ready=ready, stop=supervisor.stop)
    finally:
        supervisor.stop()
        supervisor.wait(drain_seconds + REST_SECONDS)


Executor = Literal["local", "ray"]


def worker(
    database: DatabaseOption = None,
    device: DeviceOption = "auto",
    labels: Annotated[str, typer.Option(help="Labels that jobs may ask for, such as zone=a,tier=b.")] = "",
    name: Annotated[str, typer.Option(help="Name of the worker: short for --labels name=NAME.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Exit after one job, or if none waits.")] = False,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds for the batch of trials to finish when stopped.")
    ] = DRAIN_SECONDS,
    executor: Annotated[
        Executor, typer.Option(help="Where configurations are judged: in one process, or by Ray actors.")
    ] = "local",
    gpus: Annotated[int, typer.Option(min=1, max=1024, help="Number of devices for --executor ray.")] = 1,
) -> None:
    """Run the jobs of the service on one device.

    SIGTERM or Ctrl-C stops it after the current batch of trials; a second one stops it at once.
    """
    from autokv.api.logs import install
    from autokv.cli.options import label_map
    from autokv.jobs.probing import probe_apart
    from autokv.jobs.worker import Worker, WorkerOptions
    from autokv.storage import Database

    if executor == "ray" and find_spec("ray") is None:
        raise RequestError("Ray is not installed", field="--executor", remedy="install it: pip install 'autokv[ray]'")
    if executor == "local" and gpus > 1:
        raise RequestError("one process uses one device", field="--gpus", remedy="add --executor ray")
    chosen = settings.current()
    options = WorkerOptions(
        labels={**label_map(labels, "--labels"), **label_map(f"name={name}" if name else "", "--name")},
        once=once,
        drain_seconds=drain_seconds,
        lease_seconds=chosen.lease_seconds,
        heartbeat_seconds=chosen.heartbeat_seconds,
        retention_days=chosen.retention_days,
        executor=executor,
        devices=gpus,
    )
    install()
    with Database(database or chosen.database_url) as opened:
        Worker(opened, probe_apart(device), options).run()
