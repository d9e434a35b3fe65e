"""Schedules, their runs, and places in rankings as rows."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("cron", sa.String(length=200), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("request", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("webhook_id", sa.String(length=64), nullable=True),
        sa.Column(
            "state",
            sa.Enum("active", "paused", "stopped", name="schedulestate", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("problem", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("active_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_schedules_webhook_id_webhooks"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_schedules_owner_name")),
    )
    with op.batch_alter_table("schedules", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_schedules_owner"), ["owner"], unique=False)
        batch_op.create_index(batch_op.f("ix_schedules_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_schedules_webhook_id"), ["webhook_id"], unique=False)

    op.create_table(
        "placements",
        sa.Column("ranking_id", sa.String(length=64), nullable=False),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_placements_model_id_models"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["ranking_id"], ["rankings.id"], name=op.f("fk_placements_ranking_id_rankings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("ranking_id", "metric", "model_id", name=op.f("pk_placements")),
    )
    with op.batch_alter_table("placements", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_placements_model_id_metric"), ["model_id", "metric"], unique=False)

    op.create_table(
        "schedule_runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("schedule_id", sa.String(length=64), nullable=False),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by_hand", sa.Boolean(), nullable=False),
        sa.Column("job", sa.String(length=300), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "queued", "running", "succeeded", "failed", "skipped", name="runstate", native_enum=False, length=16
            ),
            nullable=False,
        ),
        sa.Column("problem", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedules.id"], name=op.f("fk_schedule_runs_schedule_id_schedules"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_runs")),
        sa.UniqueConstraint("schedule_id", "scheduled_at", name=op.f("uq_schedule_runs_schedule_id_scheduled_at")),
    )
    with op.batch_alter_table("schedule_runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_schedule_runs_schedule_id"), ["schedule_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_schedule_runs_state"), ["state"], unique=False)

    op.create_table(
        "run_targets",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.String(length=300), nullable=False),
        sa.Column("target_id", sa.String(length=64), nullable=True),
        sa.Column("data", sa.String(length=32), nullable=False),
        sa.Column("ranking_id", sa.String(length=64), nullable=True),
        sa.Column("problem", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["ranking_id"], ["rankings.id"], name=op.f("fk_run_targets_ranking_id_rankings"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["schedule_runs.id"], name=op.f("fk_run_targets_run_id_schedule_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "position", name=op.f("pk_run_targets")),
    )
    with op.batch_alter_table("run_targets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_run_targets_ranking_id"), ["ranking_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_targets_target_id"), ["target_id"], unique=False)

    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.add_column(sa.Column("question", sa.String(length=64), nullable=True))
        batch_op.create_index(batch_op.f("ix_rankings_question"), ["question"], unique=False)


def downgrade() -> None:
    """Remove them."""
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rankings_question"))
        batch_op.drop_column("question")

    with op.batch_alter_table("run_targets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_run_targets_target_id"))
        batch_op.drop_index(batch_op.f("ix_run_targets_ranking_id"))

    op.drop_table("run_targets")
    with op.batch_alter_table("schedule_runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_schedule_runs_state"))
        batch_op.drop_index(batch_op.f("ix_schedule_runs_schedule_id"))

    op.drop_table("schedule_runs")
    with op.batch_alter_table("placements", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_placements_model_id_metric"))

    op.drop_table("placements")
    with op.batch_alter_table("schedules", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_schedules_webhook_id"))
        batch_op.drop_index(batch_op.f("ix_schedules_state"))
        batch_op.drop_index(batch_op.f("ix_schedules_owner"))

    op.drop_table("schedules")
