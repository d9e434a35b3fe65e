"""A database that holds rows of an older version comes to the present shape with its rows."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import JSON, text

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

RANKING_OF_TEAMS = {
    "target": "digits",
    "metrics": [{"name": "leep", "parameters": {}}],
    "ensembles": [{"size": 2, "standardize": "teams"}, {"size": 2, "standardize": None}],
    "teams": [["mdl_1", "mdl_2"]],
}
TEAMS = [
    {"request": RANKING_OF_TEAMS["ensembles"][0], "problem": None, "selection": {"members": ["m", "n"]}},
    {"request": {"team": ["m", "n"]}, "problem": None, "selection": {"members": ["m", "n"]}},
]


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
        assert (row.license, Models(session).zoos_with("mdl_1")) == ("mit", [("z", "local")])
    old_database.close()


def test_the_tables_are_those_of_the_code(old_database: Database) -> None:
    upgrade(old_database)
    with old_database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in Base.metadata.tables}
        )
        assert compare_metadata(context, Base.metadata) == []
    old_database.close()


def store_ranking(database: Database, request: dict[str, Any], ensembles: list[dict[str, Any]] | None) -> None:
    """Write a ranking that has ended, and its target, as the second revision has them."""
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO datasets (id, name, owner, shared, spec, state, created_at) "
                f"VALUES ('dat_1', 'd', 'local', FALSE, '{{}}', 'ready', {MOMENT})"
            )
        )
        session.execute(
            text(
                "INSERT INTO rankings "
                "(id, target_id, request, ensembles, priority, state, event_sequence, owner, shared, created_at) "
                f"VALUES ('rnk_1', 'dat_1', :request, :ensembles, 2, 'succeeded', 0, 'local', FALSE, {MOMENT})"
            ),
            {"request": json.dumps(request), "ensembles": None if ensembles is None else json.dumps(ensembles)},
        )


def stored_ranking(database: Database) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
    """The request and the ensembles of the one ranking."""
    with database.reading() as session:
        query = text("SELECT request, ensembles FROM rankings").columns(request=JSON(), ensembles=JSON())
        request, ensembles = session.execute(query).one()
    return request, ensembles


def test_stored_teams_become_ensembles(old_database: Database) -> None:
    command.upgrade(configuration(old_database), "0002")
    store_ranking(old_database, RANKING_OF_TEAMS, TEAMS)
    upgrade(old_database)
    request, ensembles = stored_ranking(old_database)
    assert "teams" not in request
    assert request["given_ensembles"] == [["mdl_1", "mdl_2"]]
    assert [choice["standardize"] for choice in request["ensembles"]] == ["ensembles", None]
    assert ensembles is not None
    assert [answer["request"] for answer in ensembles] == [
        {"size": 2, "standardize": "ensembles"},
        {"given_ensemble": ["m", "n"]},
    ]
    command.downgrade(configuration(old_database), "0002")
    assert stored_ranking(old_database) == (RANKING_OF_TEAMS, TEAMS)
    old_database.close()


def test_a_ranking_without_ensembles_is_kept(old_database: Database) -> None:
    command.upgrade(configuration(old_database), "0002")
    store_ranking(old_database, RANKING_OF_TEAMS | {"ensembles": [], "teams": []}, None)
    upgrade(old_database)
    request, ensembles = stored_ranking(old_database)
    assert (request["ensembles"], request["given_ensembles"], ensembles) == ([], [], None)
    old_database.close()
