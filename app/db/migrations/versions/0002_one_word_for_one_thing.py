"""One word for one thing: license and catalog, as the API says."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rename."""
    with op.batch_alter_table("models") as table:
        table.alter_column("licence", new_column_name="license", existing_type=sa.String(300))
    _rename_catalog("catalogue_models", "catalog_models")


def downgrade() -> None:
    """Give the old names back."""
    _rename_catalog("catalog_models", "catalogue_models")
    with op.batch_alter_table("models") as table:
        table.alter_column("license", new_column_name="licence", existing_type=sa.String(300))


def _rename_catalog(old: str, new: str) -> None:
    """The table is published anew by every worker that starts, so that nothing in it needs to be kept."""
    op.drop_table(old)
    op.create_table(
        new,
        sa.Column("name", sa.String(300), nullable=False),
        sa.Column("architecture", sa.String(200), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f(f"pk_{new}")),
    )
    op.create_index(op.f(f"ix_{new}_architecture"), new, ["architecture"])
