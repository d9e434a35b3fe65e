"""A database that holds rows of an older version comes to the present shape with its rows."""

from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from app.db.migrate import configuration, upgrade
from app.db.repositories.models import Models
from app.db.session import Database
from app.db.tables import Base

MOMENT = "'2026-01-01 00:00:00'"
ROWS_OF_THE_FIRST_VERSION = (
    "INSERT INTO models (id, name, owner, shared, spec, licence, state, created_at) "
    f"""VALUES ('mdl_1', 'm', 'local', TRUE, '{{"kind": "timm", "name": "m"}}', 'mit', 'ready', {MOMENT})""",
    f"INSERT INTO zoos (id, name, owner, shared, created_at) VALUES ('zoo_1', 'z', 'local', FALSE, {MOMENT})",
    "INSERT INTO zoo_models (zoo_id, model_id, position) VALUES ('zoo_1', 'mdl_1', 0)",
    f"INSERT INTO catalogue_models (name, architecture, details, published_at) VALUES ('m', 'm', '{{}}', {MOMENT})",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def old_database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database at the first revision, with rows that refer to one another."""
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    if request.param == "postgresql":
        server: str = request.getfixturevalue("postgresql_server")
        name = f"old_{tmp_path.name}".lower().replace("-", "_")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        head, _, query = server.partition("?")
        url = f"{head.rsplit('/', 1)[0]}/{name}?{query}"
    database = Database(url)
    command.upgrade(configuration(database), "0001")
    with database.transaction() as session:
        for statement in ROWS_OF_THE_FIRST_VERSION:
            session.execute(text(statement))
    return database


def test_old_rows_are_kept(old_database: Database) -> None:
    upgrade(old_database)
    with old_database.reading() as session:
        row = Models(session).get("mdl_1")
        assert row is not None
        assert (row.license, Models(session).zoos_with("mdl_1")) == ("mit", ["z"])
    old_database.close()


def test_the_tables_are_those_of_the_code(old_database: Database) -> None:
    upgrade(old_database)
    with old_database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in Base.metadata.tables}
        )
        assert compare_metadata(context, Base.metadata) == []
    old_database.close()
