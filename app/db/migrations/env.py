"""Alembic's entry: runs inside `forerank db upgrade`, on an engine that is already open."""

from alembic import context

from app.db import (  # noqa: F401 - their tables are part of the metadata
    advice_tables,
    fine_tuning_tables,
    retention_tables,
    schedule_tables,
    storage_tables,
    webhook_tables,
)
from app.db.tables import Base

engine = context.config.attributes["engine"]


def ours(name: str | None, kind: str, _: object) -> bool:
    """Leave the job engine's tables, which share the database, alone."""
    return kind != "table" or name in Base.metadata.tables


with engine.connect() as connection:
    if engine.dialect.name == "sqlite":
        # Altering a table there copies and drops it, which its own references would forbid; only outside a transaction
        # can they be let go.
        connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        include_name=ours,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
    if engine.dialect.name == "sqlite":
        connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=ON")
