"""``autokv serve``: the HTTP API, and workers on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autokv import settings
from autokv.cli.tables import DatabaseOption

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
    from autokv.cli.server import listen, run
    from autokv.cli.supervisor import Supervisor
    from autokv.cli.values import label_map
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
