"""Full fine-tunings and their runs."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
RUN_STATES = ("waiting", "running", "succeeded", "excluded", "cut_off", "failed")


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "fine_tunings",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("target_id", sa.String(length=64), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Enum(*STATES, name="rankingstate", native_enum=False, length=16), nullable=False),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.Column("split", sa.JSON(), nullable=True),
        sa.Column("seconds_expected", sa.Float(precision=53), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fine_tunings")),
    )
    for column in ("target_id", "state", "owner"):
        op.create_index(op.f(f"ix_fine_tunings_{column}"), "fine_tunings", [column])
    op.create_table(
        "fine_tuning_runs",
        sa.Column("fine_tuning_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.Enum("rate", "test", name="runpurpose", native_enum=False, length=16), nullable=False),
        sa.Column("rate_multiple", sa.Float(precision=53), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Enum(*RUN_STATES, name="trialstate", native_enum=False, length=16), nullable=False),
        sa.Column("stage", sa.String(length=32), nullable=True),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("seconds_left", sa.Float(precision=53), nullable=True),
        sa.Column("accuracy", sa.Float(precision=53), nullable=True),
        sa.Column("nll", sa.Float(precision=53), nullable=True),
        sa.Column("probe_accuracy", sa.Float(precision=53), nullable=True),
        sa.Column("body_rate", sa.Float(precision=53), nullable=True),
        sa.Column("images", sa.BigInteger(), nullable=True),
        sa.Column("side", sa.BigInteger(), nullable=True),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("weights", sa.String(length=200), nullable=True),
        sa.Column("seconds", sa.Float(precision=53), nullable=True),
        sa.Column("warnings", sa.JSON(), nullable=True),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["fine_tuning_id"],
            ["fine_tunings.id"],
            name=op.f("fk_fine_tuning_runs_fine_tuning_id_fine_tunings"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("fine_tuning_id", "number", name=op.f("pk_fine_tuning_runs")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("fine_tuning_runs")
    op.drop_table("fine_tunings")
