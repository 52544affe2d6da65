"""``autokv remote alias``: names that stand for configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli import complete
from autokv.cli.tables import JsonOption, ServerOption, connect, local_time, print_facts, print_json, print_table

if TYPE_CHECKING:
    from autokv.wire import AliasView

app = typer.Typer(no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of an alias.")]
NoteOption = Annotated[str, typer.Option(help="Reason, kept in the history.")]
RevisionOption = Annotated[int | None, typer.Option(help="Change the alias only if it is at this revision.")]


@app.command("list")
def list_aliases(server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List aliases and their configurations."""
    with connect(server) as client:
        found = list(client.aliases.list())
    if as_json:
        print_json(found)
        return
    rows = [(one.name, str(one.revision), one.configuration, one.digest[:12], local_time(one.moved)) for one in found]
    header = ("alias", "revision", "configuration", "digest", "moved")
    print_table(header, rows, shrink="alias", empty="no aliases yet")


@app.command()
def show(name: NameArgument, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Show an alias and its history."""
    with connect(server) as client:
        alias, moves = client.aliases.get(name), list(client.aliases.history(name))
    if as_json:
        print_json({"alias": alias, "history": moves})
        return
    print_facts(
        {
            "alias": alias.name,
            "revision": str(alias.revision),
            "configuration": alias.configuration,
            "digest": alias.digest,
            "moved": local_time(alias.moved),
        }
    )
    rows = [(str(one.revision), one.action, one.configuration, local_time(one.time), one.note) for one in moves]
    print_table(("revision", "how", "configuration", "when", "note"), rows, shrink="note", empty="no history")


@app.command("set")
def set_alias(
    name: NameArgument,
    configuration: Annotated[
        str,
        typer.Argument(
            help="Id of a configuration, or its digest, or how that begins.",
            autocompletion=complete.remote_configuration,
        ),
    ],
    note: NoteOption = "",
    revision: RevisionOption = None,
    server: ServerOption = None,
) -> None:
    """Point an alias at a configuration; a new alias is created."""
    from autokv.errors import NotFoundError

    with connect(server) as client:
        try:
            known = revision if revision is not None else client.aliases.get(name).revision
        except NotFoundError:
            _told(client.aliases.create(name, configuration, note=note))
        else:
            _told(client.aliases.move(name, configuration, revision=known, note=note))


@app.command()
def rollback(
    name: NameArgument,
    to: Annotated[int | None, typer.Option(help="Revision to go back to; default: the one before.")] = None,
    note: NoteOption = "",
    revision: RevisionOption = None,
    server: ServerOption = None,
) -> None:
    """Point an alias at an earlier configuration."""
    with connect(server) as client:
        known = revision if revision is not None else client.aliases.get(name).revision
        _told(client.aliases.roll_back(name, revision=known, to=to, note=note))


@app.command()
def delete(name: NameArgument, revision: RevisionOption = None, server: ServerOption = None) -> None:
    """Delete an alias; its configurations stay."""
    with connect(server) as client:
        client.aliases.delete(name, revision=revision if revision is not None else client.aliases.get(name).revision)
    typer.echo(f"{name} is deleted")


def _told(alias: AliasView) -> None:
    typer.echo(f"{alias.name} is at revision {alias.revision}: configuration {alias.configuration}")
