"""Bringing a database to the schema of this version."""

from __future__ import annotations

from functools import cache

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from autokv.errors import NotFoundError, StorageError
from autokv.storage.backend import Backend

VERSION_TABLE = "autokv_version"


def migrate(engine: Engine, backend: Backend, shown: str, *, create: bool = True) -> str | None:
    """Upgrade to the newest schema, all or nothing; safe when several processes open one new database.

    Returns the schema that it had; ``None`` where it was empty.

    Raises:
        NotFoundError: the database is empty, and ``create`` forbids to fill it.
        StorageError: the database is another program's, or from a newer AutoKV.
    """
    with engine.connect() as connection:
        found = _revision(connection, shown)
    if found is None and not create:
        raise NotFoundError("the database is empty", field=shown, remedy="check --database, or tune a model first")
    if found == newest():
        return found
    with backend.migrating(engine) as connection:
        if _revision(connection, shown) != newest():
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return found


def newest() -> str:
    """The schema of this version."""
    return _revisions()[0]


def require_current(engine: Engine, shown: str) -> None:
    """Check that the schema is this version's; changes nothing.

    Raises:
        StorageError: it is not.
    """
    with engine.connect() as connection:
        found = _revision(connection, shown)
    if found != newest():
        what = "the database is empty" if found is None else f"written by an older AutoKV (schema {found})"
        raise StorageError(what, field=shown, remedy="run `autokv db upgrade`")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "autokv.storage:migrations")
    return config


@cache
def _revisions() -> tuple[str, ...]:
    """Every schema, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _revision(connection: Connection, shown: str) -> str | None:
    """The schema that the database has; None where it is empty."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    found = context.get_current_revision()
    if found is None:
        if inspect(connection).get_table_names():
            raise StorageError("holds the tables of another program", field=shown, remedy="name another database")
        return None
    if found not in _revisions():
        raise StorageError(
            f"written by a newer AutoKV (schema {found})",
            field=shown,
            remedy="upgrade autokv, or name another database",
        )
    return found
