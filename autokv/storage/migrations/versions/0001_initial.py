"""Models, jobs, trials with their samples, results, fronts and configurations.

Revision 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("fingerprint", sa.String(length=64), primary_key=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=12), primary_key=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("model", sa.String(length=64), sa.ForeignKey("models.fingerprint"), nullable=True),
        sa.Column("hardware", sa.JSON(), nullable=True),
        sa.Column("workload", sa.JSON(), nullable=True),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("stopped_by", sa.String(length=16), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=True),
        sa.Column("owner_host", sa.Text(), nullable=True),
        sa.Column("owner_process", sa.Integer(), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'interrupted')", name="state"),
    )
    op.create_index(op.f("ix_jobs_created_at"), "jobs", ["created_at"])
    op.create_table(
        "results",
        sa.Column("job_id", sa.String(length=12), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("objectives", sa.JSON(), nullable=False),
        sa.Column("recommended", sa.String(length=64), nullable=True),
        sa.Column("named", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("hypervolume", sa.JSON(), nullable=False),
        sa.Column("importance", sa.JSON(), nullable=False),
        sa.Column("stopped_by", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "trials",
        sa.Column("job_id", sa.String(length=12), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('complete', 'infeasible', 'failed')", name="state"),
    )
    op.create_index(op.f("ix_trials_digest"), "trials", ["digest"])
    op.create_table(
        "configurations",
        sa.Column("job_id", sa.String(length=12), primary_key=True),
        sa.Column("result", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("digest", sa.String(length=64), primary_key=True),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id", "result"], ["results.job_id", "results.number"]),
    )
    op.create_index(op.f("ix_configurations_digest"), "configurations", ["digest"])
    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("job_id", sa.String(length=12), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.CheckConstraint("phase IN ('calibration', 'validation')", name="phase"),
        sa.ForeignKeyConstraint(["job_id", "trial"], ["trials.job_id", "trials.number"]),
    )
    op.create_index(op.f("ix_measurements_job_id_trial"), "measurements", ["job_id", "trial"])
    op.create_table(
        "front_points",
        sa.Column("job_id", sa.String(length=12), primary_key=True),
        sa.Column("result", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("position", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("feasible", sa.Boolean(), nullable=False),
        sa.Column("validation", sa.Integer(), sa.ForeignKey("measurements.id"), nullable=True),
        sa.ForeignKeyConstraint(["job_id", "result"], ["results.job_id", "results.number"]),
        sa.ForeignKeyConstraint(["job_id", "trial"], ["trials.job_id", "trials.number"]),
    )
    op.create_table(
        "samples",
        sa.Column("measurement_id", sa.Integer(), sa.ForeignKey("measurements.id"), primary_key=True),
        sa.Column("position", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("result", sa.JSON(), nullable=False),
    )
