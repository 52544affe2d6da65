"""``autokv configs``: the configurations that the jobs found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli import complete
from autokv.cli.tables import DatabaseOption, JsonOption, open_existing, print_json, print_table

if TYPE_CHECKING:
    from autokv.storage import StoredConfiguration

app = typer.Typer(no_args_is_help=True)

DigestArgument = Annotated[
    str, typer.Argument(help="Digest of a configuration, or how it begins.", autocompletion=complete.digest)
]
JobOption = Annotated[
    str, typer.Option("--job", help="Only of this job: its id, or how it begins.", autocompletion=complete.job)
]


@app.command("list")
def list_configs(job: JobOption = "", database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List the configurations that jobs found."""
    with open_existing(database) as stored:
        found = stored.configurations.list(job=job)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.digest[:12],
            one.job_id,
            ", ".join(one.roles),
            _mean(one, "kl_divergence"),
            _mean(one, "compression_ratio"),
        )
        for one in found
    ]
    header = ("digest", "job", "roles", "KL", "ratio")
    print_table(header, rows, shrink="roles", empty="no configurations yet")


@app.command()
def show(digest: DigestArgument, job: JobOption = "", database: DatabaseOption = None) -> None:
    """Print a configuration and how it was measured, as JSON."""
    with open_existing(database) as stored:
        typer.echo(stored.configurations.get(digest, job=job).document.model_dump_json(indent=2))


@app.command()
def download(
    digest: DigestArgument,
    output: Annotated[str, typer.Option("--output", help="File to write; default: DIGEST.json.")] = "",
    job: JobOption = "",
    database: DatabaseOption = None,
) -> None:
    """Write a configuration to a file."""
    from autokv.files import write_atomic

    with open_existing(database) as stored:
        found = stored.configurations.get(digest, job=job)
    path = write_atomic(output or f"{found.digest[:12]}.json", found.document.model_dump_json(indent=2) + "\n")
    typer.echo(f"wrote {path}")


def _mean(one: StoredConfiguration, metric: str) -> str:
    """A metric's mean on validation prompts where it is known, else on calibration prompts."""
    from autokv.report.format import number

    for block in (one.document.validated, one.document.measured):
        statistics = (block or {}).get(metric)
        if isinstance(statistics, dict) and isinstance(statistics.get("mean"), float | int):
            return number(float(statistics["mean"]))
    return ""
