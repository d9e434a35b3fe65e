"""How long a ranking will still take, as its answer says."""

import pytest
from sqlalchemy import event, update
from starlette.testclient import TestClient

from app.contracts.states import ModelRunState, RankingState
from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.db.tables import RankingModel

MODELS = ["resnet18.a1_in1k", "resnet34.a1_in1k", "resnet50.a1_in1k"]


def submit(client: TestClient) -> str:
    body = {"target": "digits", "models": MODELS, "metrics": ["leep"]}
    return str(client.post("/v1/rankings", json=body).json()["id"])


@pytest.fixture
def rankings(app_client: TestClient) -> list[str]:
    app_client.post("/v1/datasets", json={"location": "builtin:digits"})
    for model in MODELS:
        app_client.post("/v1/models", json={"model": model})
    return [submit(app_client) for _ in range(3)]


def seconds_left(client: TestClient, ranking: str) -> float | None:
    left: float | None = client.get(f"/v1/rankings/{ranking}").json()["seconds_left"]
    return left


def finish(database: Database, ranking: str, position: int, state: ModelRunState, **seconds: float) -> None:
    with database.transaction() as session:
        session.execute(
            update(RankingModel)
            .where(RankingModel.ranking_id == ranking, RankingModel.position == position)
            .values(state=state, seconds=seconds)
        )


def test_models_that_ended_tell_how_long_the_rest_takes(
    app_client: TestClient, database: Database, rankings: list[str]
) -> None:
    ranking, other, _ = rankings
    assert seconds_left(app_client, ranking) is None
    finish(database, ranking, 0, ModelRunState.SUCCEEDED, forward=2.0, score=1.0)
    assert seconds_left(app_client, ranking) == 6.0
    finish(database, ranking, 1, ModelRunState.SUCCEEDED, forward=4.0, score=1.0)
    assert seconds_left(app_client, ranking) == 4.0
    assert seconds_left(app_client, other) is None
    finish(database, ranking, 2, ModelRunState.FAILED)
    assert seconds_left(app_client, ranking) is None


def test_a_ranking_that_ended_has_no_time_left(app_client: TestClient, database: Database, rankings: list[str]) -> None:
    finish(database, rankings[0], 0, ModelRunState.SUCCEEDED, forward=2.0)
    with database.transaction() as session:
        Rankings(session).move(rankings[0], RankingState.CANCELLED)
    assert seconds_left(app_client, rankings[0]) is None


def test_a_list_asks_once_for_all(app_client: TestClient, rankings: list[str]) -> None:
    statements: list[str] = []
    engine = app_client.app.state.database.engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    shown = app_client.get("/v1/rankings").json()["items"]
    assert {ranking["id"] for ranking in shown} == set(rankings)
    assert sum("ranking_models.seconds" in statement for statement in statements) == 1
