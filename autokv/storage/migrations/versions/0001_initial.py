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
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_models")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=True),
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
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'interrupted')", name=op.f("ck_jobs_state")
        ),
        sa.ForeignKeyConstraint(["model"], ["models.fingerprint"], name=op.f("fk_jobs_model")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_created_at"), "jobs", ["created_at"])
    op.create_table(
        "results",
        sa.Column("job_id", sa.String(length=12), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
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
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_results_job_id")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_results")),
    )
    op.create_table(
        "trials",
        sa.Column("job_id", sa.String(length=12), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('complete', 'infeasible', 'failed')", name=op.f("ck_trials_state")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_trials_job_id")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_trials")),
    )
    op.create_index(op.f("ix_trials_digest"), "trials", ["digest"])
    op.create_table(
        "configurations",
        sa.Column("job_id", sa.String(length=12), nullable=False),
        sa.Column("result", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id", "result"], ["results.job_id", "results.number"], name=op.f("fk_configurations_job_id_result")
        ),
        sa.PrimaryKeyConstraint("job_id", "result", "digest", name=op.f("pk_configurations")),
    )
    op.create_index(op.f("ix_configurations_digest"), "configurations", ["digest"])
    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=12), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.CheckConstraint("phase IN ('calibration', 'validation')", name=op.f("ck_measurements_phase")),
        sa.ForeignKeyConstraint(
            ["job_id", "trial"], ["trials.job_id", "trials.number"], name=op.f("fk_measurements_job_id_trial")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
    )
    op.create_index(op.f("ix_measurements_job_id_trial"), "measurements", ["job_id", "trial"])
    op.create_table(
        "front_points",
        sa.Column("job_id", sa.String(length=12), nullable=False),
        sa.Column("result", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("feasible", sa.Boolean(), nullable=False),
        sa.Column("validation", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id", "result"], ["results.job_id", "results.number"], name=op.f("fk_front_points_job_id_result")
        ),
        sa.ForeignKeyConstraint(
            ["job_id", "trial"], ["trials.job_id", "trials.number"], name=op.f("fk_front_points_job_id_trial")
        ),
        sa.ForeignKeyConstraint(["validation"], ["measurements.id"], name=op.f("fk_front_points_validation")),
        sa.PrimaryKeyConstraint("job_id", "result", "position", name=op.f("pk_front_points")),
    )
    op.create_table(
        "samples",
        sa.Column("measurement_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["measurement_id"], ["measurements.id"], name=op.f("fk_samples_measurement_id")),
        sa.PrimaryKeyConstraint("measurement_id", "position", name=op.f("pk_samples")),
    )
