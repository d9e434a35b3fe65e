"""One word for one thing: license and catalog, as the API says."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE models RENAME COLUMN licence TO license")
    _rename_catalog("catalogue_models", "catalog_models")


def downgrade() -> None:
    _rename_catalog("catalog_models", "catalogue_models")
    op.execute("ALTER TABLE models RENAME COLUMN license TO licence")


def _rename_catalog(old: str, new: str) -> None:
    op.drop_index(f"ix_{old}_architecture", old)
    op.rename_table(old, new)
    op.create_index(f"ix_{new}_architecture", new, ["architecture"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {new} RENAME CONSTRAINT pk_{old} TO pk_{new}")
