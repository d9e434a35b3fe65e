"""Boards over rankings, and a report's comparison of two tables."""

from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.contracts.rankings import RankingRequest
from app.contracts.states import RankingState, ResourceState
from app.db.repositories.datasets import Datasets
from app.db.repositories.models import Models
from app.db.repositories.placements import CONSENSUS, Placements
from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.db.tables import Dataset, Model, Ranking, now
from app.schedules.report import compare
from tests.app.test_frame import problem
from tests.app.test_keys import make_key

REQUEST = {
    "target": "t",
    "zoo": None,
    "metrics": [],
    "sample": {},
    "priority": "normal",
    "layers": [],
    "reference": None,
    "sources": {},
    "intervals": None,
    "ensembles": [],
    "given_ensembles": [],
}


class World:
    """Rankings of one data set, written as a worker would have written them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.models: dict[str, str] = {}
        self.moment = now() - timedelta(days=1)
        with database.transaction() as session:
            spec = {"kind": "builtin", "name": "digits"}
            self.target = Datasets(session).add(Dataset(name="t", spec=spec, state=ResourceState.READY, shared=True)).id

    def model(self, name: str, **columns: Any) -> str:
        if name not in self.models:
            with self.database.transaction() as session:
                row = Model(
                    name=name, spec={"kind": "timm", "name": name}, state=ResourceState.READY, shared=True, **columns
                )
                self.models[name] = Models(session).add(row).id
        return self.models[name]

    def ranking(self, scores: dict[str, dict[str, float]], *, question: str = "q", owner: str = "local") -> str:
        """One ranking that succeeded; ``scores`` is metric -> model -> value."""
        self.moment += timedelta(minutes=1)
        with self.database.transaction() as session:
            row = Ranking(
                target_id=self.target,
                owner=owner,
                request=RankingRequest.read(REQUEST),
                priority=1,
                state=RankingState.SUCCEEDED,
                question=question,
                finished_at=self.moment,
            )
            identifier = Rankings(session).add(row).id
        rows = []
        for metric, values in scores.items():
            for rank, (name, value) in enumerate(sorted(values.items(), key=lambda item: -item[1]), start=1):
                row_of = {"ranking_id": identifier, "metric": metric, "model_id": self.model(name)}
                rows.append({**row_of, "rank": rank, "value": value})
        with self.database.transaction() as session:
            Placements(session).store(rows)
        return identifier


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def board(client: TestClient, query: str = "", **more: Any) -> list[tuple[int, str]]:
    answer = client.get(f"/v1/leaderboards/t?{query}", **more)
    assert answer.status_code == 200, answer.text
    return [(row["rank"], row["model"]) for row in answer.json()["rows"]]


def test_each_model_stands_by_its_latest_score(world: World, app_client: TestClient) -> None:
    world.ranking({"leep": {"a": 0.9, "b": 0.5}})
    world.ranking({"leep": {"b": 0.7, "c": 0.8}})
    world.ranking({"leep": {"a": 0.6}})
    assert board(app_client, "metric=leep") == [(1, "c"), (2, "b"), (3, "a")]


def test_consensus_is_the_mean_of_ranks_over_comparable_metrics(world: World, app_client: TestClient) -> None:
    world.ranking({"leep": {"a": 3, "b": 2, "c": 1}, "logme": {"a": 3, "b": 1, "c": 2}, CONSENSUS: {"c": 0.0}})
    # Ranks 1+1, 2+3, 3+2: b and c are level.
    assert board(app_client) == [(1, "a"), (2, "b"), (2, "c")]


def test_metrics_of_one_pool_alone_are_left_out(world: World, app_client: TestClient) -> None:
    world.ranking({"leep": {"a": 2, "b": 1}, "ncti": {"a": 1, "b": 2}})
    assert app_client.get("/v1/leaderboards/t").json()["metrics"] == ["leep"]
    document = problem(app_client.get("/v1/leaderboards/t?metric=ncti"), 422)
    assert document["errors"][0]["pointer"] == "/query/metric"


def test_rankings_that_asked_something_else_do_not_count(world: World, app_client: TestClient) -> None:
    world.ranking({"leep": {"old": 0.9}}, question="other images")
    world.ranking({"leep": {"a": 0.5}})
    assert board(app_client, "metric=leep") == [(1, "a")]
    assert app_client.get("/v1/leaderboards/t").json()["ranking_count"] == 1


def test_limits_come_first(world: World, app_client: TestClient) -> None:
    world.model("large", parameters=100, license="mit", images_per_second=5.0)
    world.model("small", parameters=10, license="apache-2.0", images_per_second=50.0)
    world.ranking({"leep": {"large": 0.9, "small": 0.5}})
    for query in ("max_parameters=50", "license=apache-2.0", "min_images_per_second=10"):
        assert board(app_client, f"metric=leep&{query}") == [(1, "small")]


def test_board_holds_what_its_caller_may_see(world: World, app_client: TestClient, database: Database) -> None:
    world.ranking({"leep": {"a": 0.5}}, owner="somebody")
    key = {"X-API-Key": make_key(database, "read")}
    problem(app_client.get("/v1/leaderboards/t", headers=key), 404)
    assert board(app_client) == [(1, "a")]


def test_board_of_a_target_without_rankings_says_so(world: World, app_client: TestClient) -> None:
    assert "no ranking" in problem(app_client.get("/v1/leaderboards/t"), 404)["detail"]


def test_history_is_the_rank_in_each_ranking(world: World, app_client: TestClient) -> None:
    first = world.ranking({"leep": {"a": 0.9, "b": 0.5}})
    second = world.ranking({"leep": {"a": 0.1, "b": 0.5, "c": 0.4}})
    points = app_client.get("/v1/leaderboards/t/history/a?metric=leep").json()["points"]
    assert [(point["ranking_id"], point["rank"], point["model_count"]) for point in points] == [
        (first, 1, 2),
        (second, 3, 3),
    ]


NAMES = {name: name.upper() for name in "abcd"}


def test_comparison_tells_who_entered_left_and_moved() -> None:
    found = compare({"a": 1, "b": 2, "c": 3}, {"b": 1, "a": 2, "d": 3}, NAMES, known=True)
    assert [place.model for place in found.entered] == ["D"]
    assert [(place.model, place.rank) for place in found.left] == [("C", 3)]
    assert [(move.model, move.before, move.after) for move in found.moved] == [("B", 2, 1), ("A", 1, 2)]
    assert found.best is not None
    assert (found.best.model, found.new_best) == ("B", True)


def test_first_table_has_nothing_to_be_compared_with() -> None:
    found = compare({}, {"a": 1}, NAMES, known=False)
    assert (found.entered, found.left, found.moved, found.new_best) == ((), (), (), False)


def test_best_that_shares_its_place_as_before_is_not_new() -> None:
    assert not compare({"a": 1, "b": 1}, {"a": 1, "b": 1}, NAMES, known=True).new_best
