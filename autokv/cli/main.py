"""``autokv``: the command line.

Commands import what they need when they run, so that ``autokv --help`` and ``autokv config validate`` need no torch.
"""

from __future__ import annotations

import os
import sys

import typer

from autokv import __version__
from autokv.cli import (
    aliases,
    bench,
    config,
    configs,
    db,
    demo,
    evaluate,
    export,
    generate,
    hardware,
    jobs,
    kernels,
    models,
    remote,
    service,
    simulate,
    trace,
    tune,
)
from autokv.cli.options import Renamed
from autokv.errors import AutoKVError, InputError, Interrupted

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="autokv",
    help="Measure, search and recommend KV-cache compression.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut the names of options
)
app.add_typer(config.app, name="config", help="Configurations as files: schema and validation.")
app.add_typer(models.app, name="models", help="Models: what their KV caches cost.")
app.add_typer(hardware.app, name="hardware", help="Devices: this one measured, others from their data sheets.")
app.add_typer(trace.app, name="trace", help="Traces: inspect, convert, slice and synthesize them.")
app.add_typer(jobs.app, name="jobs", help="Tuning jobs, in a database or on a server.")
app.add_typer(configs.app, name="configs", help="Configurations that jobs found.")
app.add_typer(aliases.app, name="aliases", help="Aliases: names for configurations.")
app.add_typer(db.app, name="db", help="Database: schema, checks and backups.")
app.add_typer(remote.app, name="remote", help="Earlier names of commands.", hidden=True)
app.add_typer(bench.app, name="bench", help="Benchmarks of this device.")
app.add_typer(kernels.app, name="kernels", help="Kernels: which are used here; precompile them.")
app.command(cls=Renamed)(tune.tune)
app.command()(evaluate.evaluate)
app.command()(export.export)
app.command()(generate.generate)
app.command(cls=Renamed)(simulate.simulate)
app.command()(demo.demo)
app.command()(service.worker)
app.command()(service.serve)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        typer.echo(f"autokv {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; every foreseen error is one line on standard error.

    Exits with 0, with 2 for input that cannot be used, with 3 where a search recommends nothing, with 130 after
    Ctrl-C, else with 1.
    """
    # Threads that spin for long make a shared machine slower still; libgomp reads this when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.TyperException as error:
        if str(error.format_message()):  # a group called without a command has shown its help
            _say(_usage(error))
        sys.exit(EXIT_INPUT)
    except Interrupted as error:
        _say(str(error))
        sys.exit(EXIT_INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except InputError as error:
        _say(f"error: {error}")
        sys.exit(EXIT_INPUT)
    except AutoKVError as error:
        _say(f"error: {error}")
        sys.exit(1)


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "autokv"
    return f"error: {str(error.format_message()).rstrip('.')}; see `{command} --help`"


def _say(line: str) -> None:
    typer.echo(line, err=True)
