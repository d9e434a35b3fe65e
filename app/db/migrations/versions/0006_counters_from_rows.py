"""What each model of a ranking computed, so that counters are sums over rows; a worker that stops leaves no row."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = ("evidence_computed", "scores_computed")


def upgrade() -> None:
    """Add them; rankings that have ended keep the counters that they stored."""
    for name in COLUMNS:
        op.add_column("ranking_models", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("DELETE FROM workers WHERE stopped")
    op.drop_column("workers", "stopped")


def downgrade() -> None:
    """Remove them."""
    op.add_column("workers", sa.Column("stopped", sa.Boolean(), nullable=False, server_default=sa.false()))
    for name in COLUMNS:
        op.drop_column("ranking_models", name)
