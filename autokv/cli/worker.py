"""``autokv worker``: run the jobs of the service on one device."""

from __future__ import annotations

from typing import Annotated

import typer

from autokv.cli.tables import DatabaseOption


def worker(
    database: DatabaseOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    labels: Annotated[str, typer.Option(help="NAME=VALUE,… that jobs may ask for.")] = "",
    name: Annotated[str, typer.Option(help="The label `name`: jobs can ask for this worker.")] = "",
    once: Annotated[bool, typer.Option("--once", help="End after one job, or where none waits.")] = False,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="How long a batch of trials may go on when the worker is asked to stop.")
    ] = 60.0,
) -> None:
    """Run jobs of the service on one device until SIGTERM or Ctrl-C; a second one stops at once."""
    from autokv import settings
    from autokv.api.logs import install
    from autokv.cli.values import label_map
    from autokv.jobs.probing import probe_apart
    from autokv.jobs.worker import Worker, WorkerOptions
    from autokv.storage import Database

    chosen = settings.current()
    options = WorkerOptions(
        labels={**label_map(labels, "--labels"), **label_map(f"name={name}" if name else "", "--name")},
        once=once,
        drain_seconds=drain_seconds,
        lease_seconds=chosen.lease_seconds,
        heartbeat_seconds=chosen.heartbeat_seconds,
        retention_days=chosen.retention_days,
    )
    install()
    with Database(database or chosen.database_url) as opened:
        Worker(opened, probe_apart(device), options).run()
