"""Bringing a database to the schema of this version."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from autokv.errors import StorageError
from autokv.storage.engine import WRITES, check_references, tables_may_be_copied

VERSION_TABLE = "autokv_version"


def migrate(engine: Engine, url: str) -> None:
    """Upgrade to the newest schema, all or nothing; safe when several processes open one new file.

    Raises:
        StorageError: the database is another program's, or from a newer AutoKV.
    """
    config = Config()
    config.set_main_option("script_location", "autokv.storage:migrations")
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        if _is_current(connection, scripts, url):
            return
    with (
        engine.execution_options(**{WRITES: True}).connect() as connection,
        tables_may_be_copied(connection),
        connection.begin(),
    ):
        if not _is_current(connection, scripts, url):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            check_references(connection)


def _is_current(connection: Connection, scripts: ScriptDirectory, url: str) -> bool:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    found = context.get_current_revision()
    if found is None:
        if inspect(connection).get_table_names():
            raise StorageError("holds the tables of another program", field=url, remedy="name another file")
        return False
    if found not in {script.revision for script in scripts.walk_revisions()}:
        raise StorageError(
            f"written by a newer AutoKV (schema {found})", field=url, remedy="upgrade autokv, or name another file"
        )
    return found == scripts.get_current_head()
