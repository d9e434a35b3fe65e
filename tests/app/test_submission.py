"""What may be asked, and that a row and its job come together or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from starlette.testclient import TestClient

from app.contracts.datasets import BuiltinSpec
from app.contracts.models import TimmSpec
from app.contracts.states import ModelRunState, RankingState, ResourceState
from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.db.tables import Dataset, Model, Ranking, RankingModel
from app.settings import Settings

Add = Callable[..., str]


@pytest.fixture
def add(database: Database) -> Add:
    """Puts a row as inspection would have left it."""

    def put(table: type[Dataset] | type[Model], name: str, **values: Any) -> str:
        ready: dict[str, Any] = {"state": ResourceState.READY, "spec": TimmSpec(name="resnet18.a1_in1k")}
        if table is Dataset:
            ready |= {"spec": BuiltinSpec(name="digits"), "class_counts": {"a": 3, "b": 3}, "image_count": 6}
        with database.transaction() as session:
            row = table(name=name, **(ready | values))
            session.add(row)
            session.flush()
            return row.id

    return put


@pytest.fixture
def pool(add: Add) -> None:
    """A target and two models."""
    add(Dataset, "target")
    add(Model, "first")
    add(Model, "second")


def submit(client: TestClient, **changes: Any) -> Any:
    body = {"target": "target", "models": ["first", "second"], "metrics": ["leep"]} | changes
    return client.post("/v1/rankings", json={key: value for key, value in body.items() if value is not None})


def pointers(answer: Any) -> list[str]:
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text
    return [error["pointer"] for error in answer.json()["errors"]]


def jobs_of(database: Database) -> int:
    schema = "" if database.is_sqlite else "dbos."
    with database.reading() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {schema}workflow_status")) or 0)


@pytest.mark.usefixtures("pool")
class TestRanking:
    def test_it_is_accepted_with_its_address(self, app_client: TestClient) -> None:
        answer = submit(app_client)
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/v1/rankings/{answer.json()['id']}"
        assert "retry-after" in answer.headers

    def test_its_row_has_a_job(self, app_client: TestClient, database: Database) -> None:
        submit(app_client)
        assert jobs_of(database) == 1

    def test_without_a_job_there_is_no_row(self, app_client: TestClient, database: Database) -> None:
        schema = "" if database.is_sqlite else "dbos."
        with database.transaction() as session:
            session.execute(text(f"ALTER TABLE {schema}workflow_status RENAME TO away"))
        assert submit(app_client).status_code >= 500
        with database.reading() as session:
            assert session.scalar(select(func.count()).select_from(Ranking)) == 0

    @pytest.mark.parametrize(
        ("changes", "pointer"),
        [
            ({"target": "nothing"}, "/target"),
            ({"models": ["first", "nothing"]}, "/models/1"),
            ({"models": ["first", "first"]}, "/models/1"),
            ({"models": None, "zoo": "nothing"}, "/zoo"),
            ({"metrics": ["leep", "beauty"]}, "/metrics/1"),
            ({"metrics": ["leep", "leep"]}, "/metrics/1"),
            ({"metrics": [{"name": "tmi", "parameters": {"neighbors": 0}}]}, "/metrics/0/parameters"),
            ({"metrics": [{"name": "tmi", "parameters": {"neighbours": 3}}]}, "/metrics/0/parameters"),
            ({"metrics": []}, "/metrics"),
            ({"ensembles": [{"size": 3}]}, "/ensembles/0/size"),
            ({"given_ensembles": [["first", "nothing"]]}, "/given_ensembles/0"),
            ({"given_ensembles": [["first", "first"]]}, "/given_ensembles/0"),
            ({"reference": "nothing"}, "/reference"),
            ({"sample": {"max_samples": 0}}, "/sample/max_samples"),
            ({"modles": ["first"]}, "/modles"),
        ],
    )
    def test_a_mistake_is_named(self, app_client: TestClient, changes: dict[str, Any], pointer: str) -> None:
        assert pointers(submit(app_client, **changes)) == [pointer]

    def test_a_target_of_one_class_is_refused(self, app_client: TestClient, add: Add) -> None:
        add(Dataset, "plain", class_counts={"a": 9})
        assert pointers(submit(app_client, target="plain")) == ["/target"]

    def test_a_target_that_failed_is_refused(self, app_client: TestClient, add: Add) -> None:
        add(Dataset, "bad", state=ResourceState.FAILED)
        assert pointers(submit(app_client, target="bad")) == ["/target"]

    def test_a_pending_target_is_accepted(self, app_client: TestClient, add: Add) -> None:
        add(Dataset, "new", state=ResourceState.PENDING, class_counts=None)
        assert submit(app_client, target="new").status_code == 202

    def test_what_it_needs_cannot_be_deleted(self, app_client: TestClient) -> None:
        submit(app_client)
        assert app_client.delete("/v1/datasets/target").status_code == 409
        assert app_client.delete("/v1/models/first").status_code == 409

    def test_cancelling_ends_every_model(self, app_client: TestClient, database: Database) -> None:
        ranking = submit(app_client).json()
        assert app_client.post(f"/v1/rankings/{ranking['id']}/cancel").json()["state"] == RankingState.CANCELLED
        with database.reading() as session:
            states = set(session.scalars(select(RankingModel.state)))
        assert states == {ModelRunState.CANCELLED}

    def test_cancelling_twice_is_a_conflict(self, app_client: TestClient) -> None:
        ranking = submit(app_client).json()
        app_client.post(f"/v1/rankings/{ranking['id']}/cancel")
        assert app_client.post(f"/v1/rankings/{ranking['id']}/cancel").status_code == 409

    def test_resuming_asks_the_same_question_of_the_same_models(
        self, app_client: TestClient, database: Database
    ) -> None:
        asked = {
            "sample": {"max_samples": 5, "seed": 3},
            "metrics": [{"name": "tmi", "parameters": {"neighbors": 2}}],
            "layers": ["layer1"],
            "intervals": None,
            "ensembles": [{"size": 2}],
            "given_ensembles": [["first", "second"]],
            "priority": "high",
            "history": False,
        }
        first = submit(app_client, **asked).json()
        app_client.post(f"/v1/rankings/{first['id']}/cancel")
        answer = app_client.post(f"/v1/rankings/{first['id']}/resume")
        assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/rankings/{answer.json()['id']}")
        with database.reading() as session:
            before, after = (session.get_one(Ranking, each["id"]) for each in (first, answer.json()))
            assert (after.request, after.target_id) == (before.request, before.target_id)
            models = [Rankings(session).models(row.id) for row in (before, after)]
        assert [run.model_id for run in models[1]] == [run.model_id for run in models[0]]
        assert {run.state for run in models[1]} == {ModelRunState.QUEUED}

    def test_one_that_has_not_ended_or_lacks_nothing_cannot_be_resumed(
        self, app_client: TestClient, database: Database
    ) -> None:
        ranking = submit(app_client).json()["id"]
        assert app_client.post(f"/v1/rankings/{ranking}/resume").status_code == 409
        with database.transaction() as session:
            rankings = Rankings(session)
            rankings.move(ranking, RankingState.RUNNING)
            rankings.finish_runs(ranking, [run.model_id for run in rankings.models(ranking)])
            assert rankings.move(ranking, RankingState.SUCCEEDED)
        answer = app_client.post(f"/v1/rankings/{ranking}/resume")
        assert (answer.status_code, "nothing to resume" in answer.json()["detail"]) == (409, True)

    def test_an_unfinished_one_cannot_be_deleted(self, app_client: TestClient) -> None:
        assert app_client.delete(f"/v1/rankings/{submit(app_client).json()['id']}").status_code == 409

    def test_it_can_be_found_by_name(self, app_client: TestClient) -> None:
        ranking = submit(app_client, name="mine").json()
        assert app_client.get("/v1/rankings/mine").json()["id"] == ranking["id"]


class TestDataset:
    def test_a_folder_under_a_root_is_accepted(self, app_client: TestClient, settings: Settings) -> None:
        folder = settings.data_roots[0] / "cats"
        folder.mkdir()
        answer = app_client.post("/v1/datasets", json={"location": str(folder)})
        assert (answer.status_code, answer.json()["name"]) == (202, "cats")

    @pytest.mark.parametrize("location", ["/etc", "relative", "/proc/self/root/etc", "builtin:faces"])
    def test_any_other_place_is_refused(self, app_client: TestClient, location: str) -> None:
        assert pointers(app_client.post("/v1/datasets", json={"location": location})) == ["/location"]

    def test_a_link_out_of_the_root_is_refused(
        self, app_client: TestClient, settings: Settings, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").mkdir()
        (settings.data_roots[0] / "link").symlink_to(tmp_path / "secret")
        body = {"location": str(settings.data_roots[0] / "link")}
        assert pointers(app_client.post("/v1/datasets", json=body)) == ["/location"]

    def test_a_name_is_taken_once(self, app_client: TestClient) -> None:
        body = {"location": "builtin:digits"}
        assert [app_client.post("/v1/datasets", json=body).status_code for _ in range(2)] == [202, 409]

    def test_an_unused_one_can_be_deleted(self, app_client: TestClient) -> None:
        app_client.post("/v1/datasets", json={"location": "builtin:digits"})
        assert app_client.delete("/v1/datasets/digits").status_code == 204
        assert app_client.get("/v1/datasets/digits").status_code == 404


class TestModel:
    @pytest.mark.parametrize(
        "body",
        [
            {"model": "hf-hub:noslash"},
            {"model": "local-dir:/etc"},
            {"model": "two words"},
            {"name": "x", "weights": "/etc/passwd", "architecture": "resnet18"},
        ],
    )
    def test_a_place_that_cannot_be_is_refused(self, app_client: TestClient, body: dict[str, str]) -> None:
        assert pointers(app_client.post("/v1/models", json=body)) in (["/model"], ["/weights"])

    @pytest.mark.parametrize(
        "body", [{}, {"model": "resnet18.a1_in1k", "weights": "/w"}, {"name": "x", "weights": "/w"}]
    )
    def test_an_origin_is_given_once(self, app_client: TestClient, body: dict[str, str]) -> None:
        assert app_client.post("/v1/models", json=body).status_code == 422

    def test_a_hub_name_keeps_its_revision(self, app_client: TestClient) -> None:
        answer = app_client.post("/v1/models", json={"model": "hf-hub:timm/resnet18.a1_in1k@main"})
        assert answer.json()["spec"] == {"kind": "hf-hub", "name": "timm/resnet18.a1_in1k", "revision": "main"}

    def test_what_it_was_trained_on_can_be_said_later(self, app_client: TestClient, add: Add) -> None:
        add(Model, "first")
        answer = app_client.patch("/v1/models/first", json={"source_dataset": "imagenet-1k"})
        assert answer.json()["source_dataset"] == "imagenet-1k"

    def test_one_in_a_zoo_cannot_be_deleted(self, app_client: TestClient, add: Add) -> None:
        add(Model, "first")
        assert app_client.post("/v1/zoos", json={"name": "z", "models": ["first"]}).status_code == 201
        assert app_client.delete("/v1/models/first").status_code == 409


def test_an_inspection_counts_for_its_owner(app_client: TestClient, database: Database) -> None:
    """The engine gives each owner a share of every worker."""
    identifier = app_client.post("/v1/datasets", json={"location": "builtin:digits"}).json()["id"]
    schema = "" if database.is_sqlite else "dbos."
    statement = text(f"SELECT queue_name, queue_partition_key FROM {schema}workflow_status WHERE workflow_uuid = :job")
    with database.reading() as session:
        job = session.execute(statement, {"job": f"inspect-{identifier}"}).one()
        row = session.get_one(Dataset, identifier)
    assert tuple(job) == ("inspections", row.owner)
