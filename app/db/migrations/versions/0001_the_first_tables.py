"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_table(
        "catalogue_models",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("architecture", sa.String(length=200), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_catalogue_models")),
    )
    with op.batch_alter_table("catalogue_models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_catalogue_models_architecture"), ["architecture"], unique=False)

    op.create_table(
        "datasets",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("sample_of", sa.String(length=300), nullable=True),
        sa.Column(
            "state",
            sa.Enum("pending", "ready", "failed", name="resourcestate", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("image_count", sa.BigInteger(), nullable=True),
        sa.Column("class_counts", sa.JSON(), nullable=True),
        sa.Column("unreadable", sa.JSON(), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("inspected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_datasets_owner_name")),
    )
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_datasets_owner"), ["owner"], unique=False)
        batch_op.create_index(batch_op.f("ix_datasets_sample_of"), ["sample_of"], unique=False)

    op.create_table(
        "idempotent_requests",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("claimed_at", sa.Float(precision=53), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotent_requests")),
    )
    with op.batch_alter_table("idempotent_requests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotent_requests_claimed_at"), ["claimed_at"], unique=False)

    op.create_table(
        "models",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("source_dataset", sa.String(length=300), nullable=True),
        sa.Column("licence", sa.String(length=300), nullable=True),
        sa.Column(
            "state",
            sa.Enum("pending", "ready", "failed", name="resourcestate", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("card", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("inspected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_models_owner_name")),
    )
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_models_owner"), ["owner"], unique=False)

    op.create_table(
        "scores",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("evidence_key", sa.String(length=64), nullable=False),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("parameters_key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=True),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.Column("resamples", sa.JSON(), nullable=True),
        sa.Column("seconds", sa.Float(precision=53), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scores")),
        sa.UniqueConstraint(
            "evidence_key", "metric", "parameters_key", name=op.f("uq_scores_evidence_key_metric_parameters_key")
        ),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("heartbeat", sa.Float(precision=53), nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "zoos",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_zoos")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_zoos_owner_name")),
    )
    with op.batch_alter_table("zoos", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_zoos_owner"), ["owner"], unique=False)

    op.create_table(
        "rankings",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("target_id", sa.String(length=64), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "succeeded",
                "failed",
                "cancelled",
                name="rankingstate",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.Column("sample", sa.JSON(), nullable=True),
        sa.Column("counters", sa.JSON(), nullable=True),
        sa.Column("summary", sa.JSON(), nullable=True),
        sa.Column("ensembles", sa.JSON(), nullable=True),
        sa.Column("event_sequence", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["target_id"], ["datasets.id"], name=op.f("fk_rankings_target_id_datasets")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rankings")),
    )
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rankings_owner"), ["owner"], unique=False)
        batch_op.create_index(batch_op.f("ix_rankings_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_rankings_target_id"), ["target_id"], unique=False)

    op.create_table(
        "zoo_models",
        sa.Column("zoo_id", sa.String(length=64), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_zoo_models_model_id_models")),
        sa.ForeignKeyConstraint(["zoo_id"], ["zoos.id"], name=op.f("fk_zoo_models_zoo_id_zoos"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("zoo_id", "model_id", name=op.f("pk_zoo_models")),
    )
    with op.batch_alter_table("zoo_models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_zoo_models_model_id"), ["model_id"], unique=False)

    op.create_table(
        "ranking_events",
        sa.Column("ranking_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["ranking_id"], ["rankings.id"], name=op.f("fk_ranking_events_ranking_id_rankings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("ranking_id", "sequence", name=op.f("pk_ranking_events")),
    )
    op.create_table(
        "ranking_models",
        sa.Column("ranking_id", sa.String(length=64), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "extracting",
                "scoring",
                "succeeded",
                "failed",
                "cancelled",
                name="modelrunstate",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("stage", sa.String(length=32), nullable=True),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.Column("reused", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.JSON(), nullable=True),
        sa.Column("images_per_second", sa.Float(precision=53), nullable=True),
        sa.Column("images_decoded", sa.BigInteger(), nullable=False),
        sa.Column("models_loaded", sa.BigInteger(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=True),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_ranking_models_model_id_models")),
        sa.ForeignKeyConstraint(
            ["ranking_id"], ["rankings.id"], name=op.f("fk_ranking_models_ranking_id_rankings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("ranking_id", "model_id", name=op.f("pk_ranking_models")),
    )
    with op.batch_alter_table("ranking_models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ranking_models_model_id"), ["model_id"], unique=False)

    op.create_table(
        "ranking_scores",
        sa.Column("ranking_id", sa.String(length=64), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("layer", sa.String(length=200), nullable=False),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("score_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["ranking_id"], ["rankings.id"], name=op.f("fk_ranking_scores_ranking_id_rankings"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["score_id"], ["scores.id"], name=op.f("fk_ranking_scores_score_id_scores")),
        sa.PrimaryKeyConstraint("ranking_id", "model_id", "layer", "metric", name=op.f("pk_ranking_scores")),
    )
    with op.batch_alter_table("ranking_scores", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ranking_scores_score_id"), ["score_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("ranking_scores", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ranking_scores_score_id"))

    op.drop_table("ranking_scores")
    with op.batch_alter_table("ranking_models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ranking_models_model_id"))

    op.drop_table("ranking_models")
    op.drop_table("ranking_events")
    with op.batch_alter_table("zoo_models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_zoo_models_model_id"))

    op.drop_table("zoo_models")
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rankings_target_id"))
        batch_op.drop_index(batch_op.f("ix_rankings_state"))
        batch_op.drop_index(batch_op.f("ix_rankings_owner"))

    op.drop_table("rankings")
    with op.batch_alter_table("zoos", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_zoos_owner"))

    op.drop_table("zoos")
    op.drop_table("workers")
    op.drop_table("scores")
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_models_owner"))

    op.drop_table("models")
    with op.batch_alter_table("idempotent_requests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_idempotent_requests_claimed_at"))

    op.drop_table("idempotent_requests")
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_datasets_sample_of"))
        batch_op.drop_index(batch_op.f("ix_datasets_owner"))

    op.drop_table("datasets")
    with op.batch_alter_table("catalogue_models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_catalogue_models_architecture"))

    op.drop_table("catalogue_models")
    op.drop_table("api_keys")
