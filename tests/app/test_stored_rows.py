"""Rows that an earlier version wrote read as contracts.

``data/rows_of_revision_0002.json`` holds rows that rankings of drawn images left in a SQLite database at revision 0002,
before contracts typed the columns; paths are shortened, and of the scores one of each kind is kept.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from sqlalchemy import DateTime, MetaData, Table, select

from app.contracts.datasets import BuiltinSpec, FolderSpec, ManifestSpec
from app.contracts.models import HubSpec, TimmSpec, WeightsFileSpec
from app.db.migrate import configuration, upgrade
from app.db.schedule_tables import Schedule
from app.db.session import Database
from app.db.tables import Dataset, Model, Ranking, RankingModel, Score

ROWS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "data" / "rows_of_revision_0002.json").read_text()
)
RENAMED = {"teams": "given_ensembles", "team": "given_ensemble"}
ADDED_TO_REQUESTS = {"task": "classification", "trial": None, "history": True}
ADDED_TO_CARDS = {"files": []}
SCHEDULE_REQUEST: dict[str, Any] = {
    "metrics": ["logme", {"name": "tmi", "parameters": {"neighbors": 5}}],
    "sample": {"max_samples": 300, "max_samples_per_class": None, "seed": 0},
    "priority": "normal",
    "layers": "stages",
    "reference": None,
    "intervals": None,
    "trial": {
        "size": 96, "crop": "squash", "flip": False, "seed": 0,
        "folds": 3, "epochs": 3, "first": 2, "models": None, "budget_seconds": None,
    },
    "history": True,
    "ensembles": [],
    "zoo": {"id": "zoo_1", "name": "offline"},
    "targets": [{"id": "ds_1", "name": "digits"}],
}  # fmt: skip
RENAMED_IN_SUMMARIES = {"probability_best": "chance_first_on_another_sample", "source": "citation"}


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def upgraded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """The rows, inserted at their revision and brought to the present one."""
    url = f"sqlite:///{tmp_path_factory.mktemp('old') / 'old.sqlite'}"
    if request.param == "postgresql":
        server: str = request.getfixturevalue("postgresql_server")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("CREATE DATABASE stored_rows")
        head, _, query = server.partition("?")
        url = f"{head.rsplit('/', 1)[0]}/stored_rows?{query}"
    database = Database(url)
    command.upgrade(configuration(database), "0002")
    with database.transaction() as session:
        for name, rows in ROWS.items():
            table = Table(name, MetaData(), autoload_with=session.connection())
            session.execute(table.insert(), [_for(table, row) for row in rows])
    upgrade(database)
    return database


def _for(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    values = dict(row)
    for column in table.columns:
        if values[column.name] is not None and isinstance(column.type, DateTime):
            values[column.name] = datetime.fromisoformat(values[column.name])
        if column.name in ("shared", "reused"):
            values[column.name] = bool(values[column.name])
    return values


def read(database: Database, table: Any) -> dict[str, Any]:
    with database.reading() as session:
        return {row.id: row for row in session.scalars(select(table))}


def renamed(value: Any, names: dict[str, str] = RENAMED) -> Any:
    """With the names that members have been given since."""
    if isinstance(value, dict):
        return {names.get(name, name): renamed(item, names) for name, item in value.items()}
    return [renamed(item, names) for item in value] if isinstance(value, list) else value


def test_specifications_of_data_sets(upgraded: Database) -> None:
    specs = {row.name: row.spec for row in read(upgraded, Dataset).values()}
    assert {name: type(spec) for name, spec in specs.items()} == {
        "shapes": FolderSpec,
        "source": FolderSpec,
        "digits": BuiltinSpec,
        "listed": ManifestSpec,
        "nothing": FolderSpec,
        "sent": FolderSpec,
    }
    assert specs["sent"].uploaded


def test_specifications_and_cards_of_models(upgraded: Database) -> None:
    rows = read(upgraded, Model)
    kinds = {row.name: type(row.spec) for row in rows.values()}
    assert (kinds["vit"], kinds["hub"], kinds["resnet18.a1_in1k"]) == (WeightsFileSpec, HubSpec, TimmSpec)
    for old in ROWS["models"]:
        card = rows[old["id"]].card
        assert rows[old["id"]].spec.plain() == old["spec"]
        assert (None if card is None else card.plain()) == (old["card"] and ADDED_TO_CARDS | old["card"])


def test_rankings(upgraded: Database) -> None:
    rows = read(upgraded, Ranking)
    for old in ROWS["rankings"]:
        row = rows[old["id"]]
        assert row.request.plain() == ADDED_TO_REQUESTS | renamed(old["request"])
        assert (row.counters and row.counters.plain()) == old["counters"]
        assert (row.sample and row.sample.plain()) == old["sample"]
        if old["summary"] is not None:
            found = row.summary.plain()
            assert {name: found[name] for name in old["summary"]} == _with_chances(
                renamed(old["summary"], RENAMED_IN_SUMMARIES)
            )
        found = [result.plain() for result in row.ensembles or ()]
        assert [_known(result) for result in found] == [_known(result) for result in renamed(old["ensembles"] or [])]


def _known(value: Any) -> Any:
    """Without what is null: terms that no candidate had were not stored."""
    if isinstance(value, dict):
        return {name: _known(item) for name, item in value.items() if item is not None}
    return [_known(item) for item in value] if isinstance(value, list) else value


def _with_chances(summary: dict[str, Any]) -> dict[str, Any]:
    # A metric whose models share no draws had no members for the chances; they are empty.
    empty: dict[str, Any] = {"chance_first_on_another_sample": {}, "expected_rank": {}}
    return summary | {"metrics": {name: empty | chances for name, chances in summary["metrics"].items()}}


def test_question_of_a_schedule_whose_members_were_not_checked(upgraded: Database) -> None:
    """What it asks of a trial has another name since."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    values = {"id": "sch_1", "owner": "local", "shared": False, "name": "nightly", "cron": "0 2 * * *"}
    values |= {"time_zone": "UTC", "state": "active", "active_since": moment, "created_at": moment}
    with upgraded.transaction() as session:
        table = Table("schedules", MetaData(), autoload_with=session.connection())
        session.execute(table.insert(), [values | {"request": SCHEDULE_REQUEST}])
    found = read(upgraded, Schedule)["sch_1"].request.plain()
    trial = renamed(SCHEDULE_REQUEST["trial"], {"first": "winners"})
    assert found == SCHEDULE_REQUEST | {"trial": trial}


def test_models_of_rankings(upgraded: Database) -> None:
    with upgraded.reading() as session:
        rows = {(row.ranking_id, row.model_id): row for row in session.scalars(select(RankingModel))}
    for old in ROWS["ranking_models"]:
        row = rows[old["ranking_id"], old["model_id"]]
        evidence = None if row.evidence is None else {k: v for k, v in row.evidence.plain().items() if v}
        assert evidence == old["evidence"]
        assert (row.problem and row.problem.plain()) == old["problem"]
        assert (None if row.warnings is None else list(row.warnings)) == old["warnings"]


def test_scores(upgraded: Database) -> None:
    rows = read(upgraded, Score)
    for old in ROWS["scores"]:
        row = rows[old["id"]]
        assert (row.value, row.details, list(row.warnings)) == (old["value"], old["details"], old["warnings"])
        assert (row.problem and row.problem.plain()) == old["problem"]
        assert (row.resamples and row.resamples.plain()) == old["resamples"]
