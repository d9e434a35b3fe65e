"""What is known of models, and zoos that are found by a query."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them. The catalog is published anew by every worker that starts, so nothing in it needs to be kept."""
    op.execute("DELETE FROM catalog_models")
    with op.batch_alter_table("catalog_models", schema=None) as batch_op:
        batch_op.add_column(sa.Column("family", sa.String(length=200), nullable=False))
        batch_op.add_column(sa.Column("tag", sa.String(length=200), nullable=False))
        batch_op.add_column(sa.Column("gmacs", sa.Float(precision=53), nullable=True))
        batch_op.add_column(sa.Column("weight_bytes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("input_size", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("source_classes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("license", sa.String(length=300), nullable=True))
        batch_op.add_column(sa.Column("source_dataset", sa.String(length=300), nullable=True))
        batch_op.add_column(sa.Column("training_data", sa.JSON(none_as_null=True), nullable=False))
        batch_op.add_column(sa.Column("top1", sa.Float(precision=53), nullable=True))
        batch_op.create_index(batch_op.f("ix_catalog_models_family"), ["family"], unique=False)

    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.add_column(sa.Column("architecture", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("family", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("tag", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("gmacs", sa.Float(precision=53), nullable=True))
        batch_op.add_column(sa.Column("weight_bytes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("input_size", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("top1", sa.Float(precision=53), nullable=True))
        batch_op.add_column(sa.Column("images_per_second", sa.Float(precision=53), nullable=True))
        batch_op.create_index(batch_op.f("ix_models_architecture"), ["architecture"], unique=False)

    with op.batch_alter_table("zoos", schema=None) as batch_op:
        batch_op.add_column(sa.Column("query", sa.JSON(none_as_null=True), nullable=True))
        batch_op.add_column(sa.Column("unavailable", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Remove them."""
    with op.batch_alter_table("zoos", schema=None) as batch_op:
        batch_op.drop_column("unavailable")
        batch_op.drop_column("query")

    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_models_architecture"))
        batch_op.drop_column("images_per_second")
        batch_op.drop_column("top1")
        batch_op.drop_column("input_size")
        batch_op.drop_column("weight_bytes")
        batch_op.drop_column("gmacs")
        batch_op.drop_column("tag")
        batch_op.drop_column("family")
        batch_op.drop_column("architecture")

    with op.batch_alter_table("catalog_models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_catalog_models_family"))
        batch_op.drop_column("top1")
        batch_op.drop_column("training_data")
        batch_op.drop_column("source_dataset")
        batch_op.drop_column("license")
        batch_op.drop_column("source_classes")
        batch_op.drop_column("input_size")
        batch_op.drop_column("weight_bytes")
        batch_op.drop_column("gmacs")
        batch_op.drop_column("tag")
        batch_op.drop_column("family")
