"""``autokv remote``: earlier names of commands, which go with the next release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autokv import settings
from autokv.cli import aliases, configs, jobs
from autokv.cli.options import Renamed
from autokv.cli.store import ServerOption, open_server
from autokv.cli.tables import JsonOption, print_json
from autokv.errors import RequestError
from autokv.runs.commands import RESULTS


class Moved(Renamed):
    """A command of ``autokv remote``: it says where it is now, and means a server, also where none is named."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the class is typer's own
        """Run the command."""
        program, _, name = ctx.command_path.partition(" remote ")
        room = "jobs"
        if name.startswith("alias ") or ctx.params.get("alias"):
            room = "aliases"
        elif ctx.params.get("configuration"):
            room = "configs"
        now = f"{program} {room} {name.removeprefix('alias ')}"
        typer.echo(f"`{ctx.command_path}` is now `{now}`", err=True)
        ctx.params["server"] = ctx.params["server"] or settings.current().server_url or settings.LOCAL_SERVER
        return super().invoke(ctx)


app, _alias = typer.Typer(no_args_is_help=True), typer.Typer(no_args_is_help=True)
app.add_typer(_alias, name="alias", help="Now `autokv aliases`.")
app.command(cls=Moved)(jobs.submit)
app.command("list", cls=Moved)(jobs.list_jobs)
app.command(cls=Moved)(jobs.watch)
app.command(cls=Moved)(jobs.cancel)
app.command(cls=Moved)(jobs.retry)
_alias.command("list", cls=Moved)(aliases.list_aliases)
_alias.command(cls=Moved)(aliases.show)
_alias.command("set", cls=Moved)(aliases.set_alias)
_alias.command(cls=Moved)(aliases.rollback)
_alias.command(cls=Moved)(aliases.delete)


@app.command(cls=Moved)
def show(job: str, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Show a job."""
    if not as_json:
        jobs.show(job, server=server)
        return
    with open_server(server) as client:
        print_json(client.jobs.get(job))


@app.command(cls=Moved)
def download(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]")] = None,
    configuration: Annotated[str | None, typer.Option(help="Now: autokv configs download.")] = None,
    alias: Annotated[str | None, typer.Option(help="Now: autokv aliases download.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for a job's files, or file.")] = None,
    server: ServerOption = None,
) -> None:
    """Download the results of a job, or one configuration."""
    if sum(value is not None for value in (job, configuration, alias)) != 1:
        raise RequestError("name a job, or --configuration, or --alias", remedy="one of them")
    file = "" if output is None else str(output)
    if job is not None:
        jobs.download(job, output or RESULTS, server=server)
    elif alias is not None:
        aliases.download(alias, file, server=server)
    elif configuration is not None:
        configs.download(configuration, file or f"{configuration[:12]}.json", server=server)
