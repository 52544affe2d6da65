"""``autokv aliases``: names that stand for configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli import complete
from autokv.cli.configs import ConfigurationArgument, write_document
from autokv.cli.store import ServerOption, open_store
from autokv.cli.tables import DatabaseOption, JsonOption, local_time, print_facts, print_json, print_table
from autokv.errors import NotFoundError

if TYPE_CHECKING:
    from autokv.wire import AliasView

app = typer.Typer(no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of an alias.", autocompletion=complete.alias)]
NoteOption = Annotated[str, typer.Option(help="Reason, kept in the history.")]
RevisionOption = Annotated[int | None, typer.Option(help="Change the alias only if it is at this revision.")]


@app.command("list")
def list_aliases(server: ServerOption = None, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List aliases and their configurations."""
    with open_store(server, database) as store:
        found = list(store.aliases.list())
    if as_json:
        print_json(found)
        return
    rows = [(one.name, str(one.revision), one.configuration, one.digest[:12], local_time(one.moved)) for one in found]
    header = ("alias", "revision", "configuration", "digest", "moved")
    print_table(header, rows, shrink="alias", empty="no aliases yet")


@app.command()
def show(
    name: NameArgument, server: ServerOption = None, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Show an alias and its history."""
    with open_store(server, database) as store:
        alias, moves = store.aliases.get(name), list(store.aliases.history(name))
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
    configuration: ConfigurationArgument,
    note: NoteOption = "",
    revision: RevisionOption = None,
    server: ServerOption = None,
    database: DatabaseOption = None,
) -> None:
    """Point an alias at a configuration; a new alias is created."""
    with open_store(server, database) as store:
        try:
            known = store.aliases.get(name).revision if revision is None else revision
        except NotFoundError:
            _told(store.aliases.create(name, configuration, note=note))
        else:
            _told(store.aliases.move(name, configuration, revision=known, note=note))


@app.command()
def rollback(
    name: NameArgument,
    to: Annotated[int | None, typer.Option(help="Revision to go back to; default: the one before.")] = None,
    note: NoteOption = "",
    revision: RevisionOption = None,
    server: ServerOption = None,
    database: DatabaseOption = None,
) -> None:
    """Point an alias at an earlier configuration."""
    with open_store(server, database) as store:
        known = store.aliases.get(name).revision if revision is None else revision
        _told(store.aliases.roll_back(name, revision=known, to=to, note=note))


@app.command()
def download(
    name: NameArgument,
    output: Annotated[str, typer.Option(help="File to write, .json or .yaml; default: NAME.json.")] = "",
    server: ServerOption = None,
    database: DatabaseOption = None,
) -> None:
    """Write the configuration of an alias to a file."""
    with open_store(server, database) as store:
        found = store.configuration(store.aliases.get(name).configuration, "")
    write_document(found, output or f"{name}.json")


@app.command()
def delete(
    name: NameArgument, revision: RevisionOption = None, server: ServerOption = None, database: DatabaseOption = None
) -> None:
    """Delete an alias; its configurations stay."""
    with open_store(server, database) as store:
        known = store.aliases.get(name).revision if revision is None else revision
        store.aliases.delete(name, revision=known)
    typer.echo(f"{name} is deleted")


def _told(alias: AliasView) -> None:
    typer.echo(f"{alias.name} is at revision {alias.revision}: configuration {alias.configuration}")
