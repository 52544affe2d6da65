"""``autokv db``: the database itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autokv.cli.tables import DatabaseOption, JsonOption, open_existing, print_json, print_table
from autokv.errors import StorageError

app = typer.Typer(no_args_is_help=True)


@app.command()
def upgrade(database: DatabaseOption = None) -> None:
    """Upgrade a database to this version's schema.

    If it fails, nothing is changed. An empty database gets its tables.
    """
    from autokv import settings
    from autokv.storage import Database

    with Database(database or settings.current().database_url) as stored:
        before = {None: "was empty", stored.schema: "nothing to do"}.get(
            stored.found_schema, f"was {stored.found_schema}"
        )
        typer.echo(f"{stored.shown}: schema {stored.schema} ({before})")


@app.command()
def check(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Check that a database is consistent; changes nothing."""
    with open_existing(database, upgrade=False) as stored:
        found = stored.check()
        shown, schema = stored.shown, stored.schema
    problems = sum(len(one.problems) for one in found)
    if as_json:
        print_json({"database": shown, "schema": schema, "checks": found})
    else:
        typer.echo(f"{shown}: schema {schema}")
        rows = [(one.name, line) for one in found for line in one.problems or ("ok",)]
        print_table(("check", "finding"), rows, shrink="finding", empty="nothing to check")
    if problems:
        raise StorageError(
            f"{problems} problem{'s' * (problems > 1)} found", field=shown, remedy="restore a backup of it"
        )


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="New file for the backup.")], database: DatabaseOption = None
) -> None:
    """Back up a database to a file while others use it.

    The file is a SQLite database, or a dump of PostgreSQL for pg_restore.
    """
    from autokv import settings
    from autokv.storage.maintenance import backup as copy

    size = copy(database or settings.current().database_url, file)
    typer.echo(f"wrote {file} ({size / 1e6:.1f} MB)")
