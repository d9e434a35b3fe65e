"""Which models a run of a schedule found to have other weights."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    with op.batch_alter_table("schedule_runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("changed_models", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Remove it."""
    with op.batch_alter_table("schedule_runs", schema=None) as batch_op:
        batch_op.drop_column("changed_models")
