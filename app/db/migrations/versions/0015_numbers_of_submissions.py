"""PostgreSQL numbers submissions by a sequence, so that none waits for another; SQLite, with one writer, by a row."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go on where the row is."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE submission_numbers")
        op.execute("SELECT setval('submission_numbers', max(last) + 1, false) FROM submission_counter")


def downgrade() -> None:
    """Give the row the last number."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("UPDATE submission_counter SET last = nextval('submission_numbers')")
        op.execute("DROP SEQUENCE submission_numbers")
