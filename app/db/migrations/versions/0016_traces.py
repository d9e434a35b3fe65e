"""Which trace the steps of a ranking continue."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.add_column(sa.Column("traceparent", sa.String(length=55), nullable=True))


def downgrade() -> None:
    """Remove it."""
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.drop_column("traceparent")
