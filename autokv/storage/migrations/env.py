"""Alembic's environment: runs in the connection, and the transaction, that :mod:`autokv.storage.schema` hands over."""

from alembic import context

from autokv.storage import service_tables  # noqa: F401 - tables that autogeneration would miss
from autokv.storage.schema import VERSION_TABLE
from autokv.storage.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,  # names the constraints, too
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
