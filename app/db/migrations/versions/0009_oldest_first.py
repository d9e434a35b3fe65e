"""Count submissions, so that the oldest ranking of a class runs first; rankings under way run before all new ones."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the counter with its one row."""
    counter = op.create_table(
        "submission_counter",
        sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(counter, [{"id": 1, "last": 0}])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("submission_counter")
