"""``autokv configs``: the configurations that the jobs found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli import complete
from autokv.cli.store import ServerOption, open_store
from autokv.cli.tables import DatabaseOption, JsonOption, print_json, print_table
from autokv.documents import format_of, rendered

if TYPE_CHECKING:
    from autokv.wire import ConfigurationView

app = typer.Typer(no_args_is_help=True)

ConfigurationArgument = Annotated[
    str,
    typer.Argument(
        help="Id of a configuration, or its digest, or how that begins.", autocompletion=complete.configuration
    ),
]
JobOption = Annotated[
    str,
    typer.Option(
        "--job", help="Only of this job: its id; in a database also how it begins.", autocompletion=complete.job
    ),
]
OutputOption = Annotated[str, typer.Option("--output", help="File to write, .json or .yaml; default: DIGEST.json.")]


@app.command("list")
def list_configs(
    job: JobOption = "", server: ServerOption = None, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """List the configurations that jobs found."""
    with open_store(server, database) as store:
        found = list(store.configurations.list(job=job or None))
    if as_json:
        print_json(found)
        return
    rows = [
        (one.digest[:12], one.job, ", ".join(one.roles), _mean(one, "kl_divergence"), _mean(one, "compression_ratio"))
        for one in found
    ]
    header = ("digest", "job", "roles", "KL", "ratio")
    print_table(header, rows, shrink="roles", empty="no configurations yet")


@app.command()
def show(
    configuration: ConfigurationArgument,
    job: JobOption = "",
    server: ServerOption = None,
    database: DatabaseOption = None,
) -> None:
    """Print a configuration and how it was measured, as JSON."""
    with open_store(server, database) as store:
        print_json(store.configuration(configuration, job).document)


@app.command()
def download(
    configuration: ConfigurationArgument,
    output: OutputOption = "",
    job: JobOption = "",
    server: ServerOption = None,
    database: DatabaseOption = None,
) -> None:
    """Write a configuration to a file."""
    with open_store(server, database) as store:
        found = store.configuration(configuration, job)
    write_document(found, output or f"{found.digest[:12]}.json")


def write_document(found: ConfigurationView, file: str) -> None:
    """Write the document of a configuration, whole or not at all; as YAML where the file's suffix says so."""
    from autokv.files import write_atomic

    typer.echo(f"wrote {write_atomic(file, rendered(found.document, format_of(file)))}")


def _mean(one: ConfigurationView, metric: str) -> str:
    """A metric's mean on validation prompts where it is known, else on calibration prompts."""
    from autokv.report.format import number

    for block in ("validated", "measured"):
        statistics = (one.document.get(block) or {}).get(metric)
        if isinstance(statistics, dict) and isinstance(statistics.get("mean"), float | int):
            return number(float(statistics["mean"]))
    return ""
