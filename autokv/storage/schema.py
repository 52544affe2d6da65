"""Bringing a database to the schema of this version."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from autokv.errors import NotFoundError, StorageError
from autokv.storage.backend import Backend

VERSION_TABLE = "autokv_version"


def migrate(engine: Engine, backend: Backend, shown: str, *, create: bool = True) -> None:
    """Upgrade to the newest schema, all or nothing; safe when several processes open one new database.

    Raises:
        NotFoundError: the database is empty, and ``create`` forbids to fill it.
        StorageError: the database is another program's, or from a newer AutoKV.
    """
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        found = _revision(connection, scripts, shown)
    if found is None and not create:
        raise NotFoundError("the database is empty", field=shown, remedy="check --database, or tune a model first")
    if found == scripts.get_current_head():
        return
    with backend.migrating(engine) as connection:
        if _revision(connection, scripts, shown) != scripts.get_current_head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def require_current(engine: Engine, shown: str) -> None:
    """Check that the schema is this version's; changes nothing.

    Raises:
        StorageError: it is not.
    """
    scripts = ScriptDirectory.from_config(_config())
    with engine.connect() as connection:
        found = _revision(connection, scripts, shown)
    if found != scripts.get_current_head():
        what = "the database is empty" if found is None else f"written by an older AutoKV (schema {found})"
        raise StorageError(what, field=shown, remedy="run `autokv db upgrade`")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "autokv.storage:migrations")
    return config


def _revision(connection: Connection, scripts: ScriptDirectory, shown: str) -> str | None:
    """The schema that the database has; None where it is empty."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    found = context.get_current_revision()
    if found is None:
        if inspect(connection).get_table_names():
            raise StorageError("holds the tables of another program", field=shown, remedy="name another database")
        return None
    if found not in {script.revision for script in scripts.walk_revisions()}:
        raise StorageError(
            f"written by a newer AutoKV (schema {found})",
            field=shown,
            remedy="upgrade autokv, or name another database",
        )
    return found
