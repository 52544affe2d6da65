"""``autokv worker``: run the jobs of the service on one device."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Literal

import typer

from autokv.cli.tables import DatabaseOption
from autokv.errors import RequestError

Executor = Literal["local", "ray"]


def worker(
    database: DatabaseOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    labels: Annotated[str, typer.Option(help="Labels that jobs may ask for, such as zone=a,tier=b.")] = "",
    name: Annotated[str, typer.Option(help="Name of the worker: short for --labels name=NAME.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Exit after one job, or if none waits.")] = False,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds for the batch of trials to finish when stopped.")
    ] = 60.0,
    executor: Annotated[
        Executor, typer.Option(help="Where configurations are judged: in one process, or by Ray actors.")
    ] = "local",
    gpus: Annotated[int, typer.Option(min=1, max=1024, help="Number of devices for --executor ray.")] = 1,
) -> None:
    """Run the jobs of the service on one device.

    SIGTERM or Ctrl-C stops it after the current batch of trials; a second one stops it at once.
    """
    from autokv import settings
    from autokv.api.logs import install
    from autokv.cli.values import label_map
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
