"""The service: uploads, hardware profiles, workers, attempts, events, idempotency keys, aliases; jobs for workers.

Revision 0003, behind 0002. Every job that was stored before was run by the command that made it: ``local``. Every
configuration gets an id of its own.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(length=64), primary_key=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "hardware_profiles",
        sa.Column("id", sa.String(length=12), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("source IN ('uploaded', 'measured')", name="source"),
    )
    op.create_index(op.f("ix_hardware_profiles_created_at_id"), "hardware_profiles", ["created_at", "id"])
    op.create_index(op.f("ix_hardware_profiles_fingerprint"), "hardware_profiles", ["fingerprint"])
    op.create_table(
        "blob_chunks",
        sa.Column("digest", sa.String(length=64), sa.ForeignKey("blobs.digest"), primary_key=True),
        sa.Column("position", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=12), primary_key=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), sa.ForeignKey("blobs.digest"), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('trace', 'prompts')", name="kind"),
    )
    op.create_index(op.f("ix_uploads_kind_created_at_id"), "uploads", ["kind", "created_at", "id"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=12), primary_key=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("process", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("profile", sa.String(length=12), sa.ForeignKey("hardware_profiles.id"), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('ready', 'draining', 'stopped')", name="state"),
    )
    op.create_index(op.f("ix_workers_state_until"), "workers", ["state", "until"])
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.String(length=12), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("worker", sa.String(length=12), sa.ForeignKey("workers.id"), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("outcome IN ('done', 'failed', 'cancelled', 'released', 'crashed', 'lost')", name="outcome"),
    )
    op.create_table(
        "events",
        sa.Column("job_id", sa.String(length=12), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), primary_key=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=12), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index(op.f("ix_idempotency_keys_job_id"), "idempotency_keys", ["job_id"])
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_constraint(op.f("ck_jobs_state"), type_="check")
        batch_op.create_check_constraint(
            op.f("ck_jobs_state"), "state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'interrupted')"
        )
        batch_op.add_column(sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("local", sa.Boolean(), server_default=sa.true(), nullable=False))
        batch_op.add_column(sa.Column("selector", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("submission", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("trace", sa.String(length=12), nullable=True))
        batch_op.add_column(sa.Column("prompts", sa.String(length=12), nullable=True))
        batch_op.add_column(sa.Column("profile", sa.String(length=12), nullable=True))
        batch_op.add_column(sa.Column("worker", sa.String(length=12), nullable=True))
        batch_op.add_column(sa.Column("crashes", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("conditions", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("progress", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("last_event", sa.Integer(), server_default="0", nullable=False))
        batch_op.drop_index(batch_op.f("ix_jobs_created_at"))
        batch_op.create_index(batch_op.f("ix_jobs_created_at_id"), ["created_at", "id"])
        batch_op.create_index(batch_op.f("ix_jobs_state_selector_created_at"), ["state", "selector", "created_at"])
        batch_op.create_foreign_key(batch_op.f("fk_jobs_prompts"), "uploads", ["prompts"], ["id"])
        batch_op.create_foreign_key(batch_op.f("fk_jobs_trace"), "uploads", ["trace"], ["id"])
        batch_op.create_foreign_key(batch_op.f("fk_jobs_worker"), "workers", ["worker"], ["id"])
        batch_op.create_foreign_key(batch_op.f("fk_jobs_profile"), "hardware_profiles", ["profile"], ["id"])
    with op.batch_alter_table("configurations") as batch_op:
        batch_op.add_column(sa.Column("id", sa.String(length=12), nullable=True))
    _name_configurations()
    with op.batch_alter_table("configurations") as batch_op:
        batch_op.alter_column("id", existing_type=sa.String(length=12), nullable=False)
        batch_op.create_unique_constraint(op.f("uq_configurations_id"), ["id"])
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(length=100), primary_key=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("configuration", sa.String(length=12), sa.ForeignKey("configurations.id"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "alias_moves",
        sa.Column("alias", sa.String(length=100), sa.ForeignKey("aliases.name"), primary_key=True),
        sa.Column("revision", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("configuration", sa.String(length=12), sa.ForeignKey("configurations.id"), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("action IN ('created', 'moved', 'rolled_back')", name="action"),
    )


def _name_configurations() -> None:
    table = sa.table(
        "configurations",
        sa.column("id", sa.String),
        sa.column("job_id", sa.String),
        sa.column("result", sa.Integer),
        sa.column("digest", sa.String),
    )
    connection = op.get_bind()
    keys = (table.c.job_id, table.c.result, table.c.digest)
    for row in connection.execute(sa.select(*keys)).all():
        one = [column == value for column, value in zip(keys, row, strict=True)]
        connection.execute(sa.update(table).where(*one).values(id=secrets.token_hex(6)))
