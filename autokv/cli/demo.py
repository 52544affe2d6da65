"""``autokv demo``: a first real answer for a real language model, from a server of its own, with nothing to prepare."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autokv import settings
from autokv.errors import Interrupted
from autokv.runs.commands import RESULTS, database_option, generate_command

if TYPE_CHECKING:
    from autokv.client import Client, Tuning

REQUESTS_PER_S = 0.2
"""Of the example trace: what two CPU cores keep up with."""
KV_MEMORY_BYTES = 100e6
"""For KV caches: those of an edge box, which holds four requests of the trace in 16 bits."""
MAX_CONTEXT_TOKENS = 2048


def demo(
    trials: Annotated[int, typer.Option(min=1, help="Candidates to run.")] = 60,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database.")] = None,
) -> None:
    """Tune SmolLM2-135M-Instruct on a server of its own.

    Text and trace ship with AutoKV; the server is stopped at the end. The same command again resumes a stopped run.
    """
    from autokv.cli.console import output as console
    from autokv.cli.processes import own_server
    from autokv.cli.progress import follow
    from autokv.cli.server_store import ServerStore
    from autokv.runs.result_files import export
    from autokv.storage import Database

    typer.echo("SmolLM2-135M-Instruct on an excerpt of Persuasion, contexts and traffic as in a synthesized chat trace")
    url = database or settings.current().database_url
    Database(url).close()
    model = _offered()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    tuning: Tuning | None = None
    try:
        with own_server(url, output / "server.log") as server, ServerStore(server) as client:
            typer.echo(f"serving {server}, until the demonstration ends")
            tuning = _submitted(client, model, trials)
            job = follow(client, tuning.id, console())
            if job.state != "done":
                raise typer.Exit(1)
            with Database(url, create=False) as stored:
                _, files = export(stored, job.id, output)
            # What a client gets: the two files that matter come from the server.
            for path in client.download(job.id, output):
                files[path.name] = path
    except KeyboardInterrupt:
        stored_until = "" if tuning is None else f"; what job {tuning.id} has finished is stored"
        raise Interrupted(f"stopped{stored_until}", remedy="the same command goes on with it") from None
    for name, path in sorted(files.items()):
        typer.echo(f"  {name:17} {path}")
    typer.echo(f"  {'database':17} {url} (job {job.id})")
    if "recommended.json" in files:
        typer.echo(f"`{generate_command(files['recommended.json'])}` runs the model with it")
    typer.echo(f"`{shlex.join(['autokv', 'serve', *database_option(url)])}` keeps a server running over this database")


def _offered() -> str:
    """The name under which a server offers the demonstration model, which is converted first where it is not yet."""
    from autokv.models.demo import DEMO_MODEL
    from autokv.models.offered import offered

    for wanted in (True, False):
        for model in offered(settings.current()):
            if model.source == "cache" and Path(model.loads).name == DEMO_MODEL:
                return model.name
        if wanted:
            from autokv.models import demo_model_path

            typer.echo("converting the model from GGUF, once: about 20 s")
            demo_model_path()
    return DEMO_MODEL


def _submitted(client: Client, model: str, trials: int) -> Tuning:
    """The job of the demonstration: one that was interrupted is gone on with."""
    from autokv.data import example_trace
    from autokv.wire import JobSubmission

    trace = client.traces.upload(example_trace())
    submission = JobSubmission(
        model=model,
        workload=trace.id,
        rate=REQUESTS_PER_S,
        kv_memory=KV_MEMORY_BYTES,
        maximums={"kl_divergence": 0.05},
        trials=trials,
        max_context_tokens=MAX_CONTEXT_TOKENS,
    )
    for job in client.jobs.list(state=["queued", "running"]):
        if job.submission == submission:
            typer.echo(f"going on with job {job.id}: {job.trials} trials are stored")
            return client.tuning(job.id)
    job = client.jobs.submit(submission)
    typer.echo(f"job {job.id} is submitted")
    return client.tuning(job.id)
