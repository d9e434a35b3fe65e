"""Searching models by what they are, zoos that are found by a query, and registering in bulk."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from app.contracts.caller import LOCAL_CALLER, Caller
from app.contracts.catalog import PublishedModel
from app.contracts.states import ResourceState
from app.contracts.zoos import ModelFilter
from app.db.repositories.models import Catalog, Models, Zoos
from app.db.session import Database
from app.db.tables import Model, Zoo
from app.jobs import Jobs
from app.settings import Settings
from app.submission import zoos
from tests.app.test_frame import problem


def published(name: str, **more: Any) -> PublishedModel:
    """A model of the catalog."""
    architecture, _, tag = name.partition(".")
    row = {
        "name": name,
        "architecture": architecture,
        "family": architecture.rstrip("0123456789"),
        "tag": tag,
        "parameters": 1000,
        "gmacs": 1.0,
        "weight_bytes": 4000,
        "input_size": 224,
        "source_classes": 1000,
        "license": "apache-2.0",
        "source_dataset": "imagenet-1k",
        "training_data": ["imagenet-1k"],
        "top1": 80.0,
        "details": {},
        **more,
    }
    return PublishedModel.model_validate(row)


CATALOG = [
    published("alpha1.a_in1k", parameters=10),
    published("alpha2.a_in1k", parameters=20, gmacs=5.0, license="mit"),
    published("beta1.b_in12k", parameters=30, top1=None, source_dataset="imagenet-12k", input_size=384),
    published("gamma1.c", parameters=None, gmacs=None, license=None, weight_bytes=None),
]


def test_zoos_that_an_earlier_version_stored_are_read(app_client: TestClient, database: Database) -> None:
    """Before contracts typed the columns they held what was asked, and whole answers of the API."""
    refused = {"type": "urn:x", "title": "T", "status": 422, "detail": "why", "errors": [{"pointer": "/model"}]}
    values = {
        "query": {"search": "alpha", "source": "registered", "limit": 7},
        "unavailable": [{"name": "gone", "problem": refused}],
    }
    with database.transaction() as session:
        row = Zoos(session).add(Zoo(name="old", owner=LOCAL_CALLER.owner))
        statement = text("UPDATE zoos SET query = :query, unavailable = :unavailable WHERE id = :id")
        session.execute(statement, {"id": row.id, **{name: json.dumps(value) for name, value in values.items()}})
    zoo = app_client.get("/v1/zoos/old").json()
    assert (zoo["query"]["search"], zoo["query"]["limit"]) == ("alpha", 7)
    assert zoo["unavailable"] == [{"name": "gone", "problem": {"type": "urn:x", "title": "T", "detail": "why"}}]


@pytest.fixture
def catalog(database: Database) -> None:
    with database.transaction() as session:
        Catalog(session).replace(CATALOG)


def test_workers_that_start_together_publish_one_after_the_other(database: Database) -> None:
    def publish() -> None:
        with database.transaction() as session:
            Catalog(session).replace(CATALOG)

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            Catalog(session).replace(CATALOG)
            second = pool.submit(publish)
            time.sleep(0.3)
            assert not second.done()
        second.result()
    with database.reading() as session:
        assert [row.name for row in Catalog(session).matching(ModelFilter(), limit=9)] == [row.name for row in CATALOG]


def registered(database: Database, name: str, **columns: Any) -> str:
    """The id of an inspected model."""
    with database.transaction() as session:
        row = Model(name=name, spec={"kind": "timm", "name": name}, state=ResourceState.READY, **columns)
        return Models(session).add(row).id


def names(client: TestClient, query: str) -> list[str]:
    answer = client.get(f"/v1/models?{query}")
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["alpha1.a_in1k", "alpha2.a_in1k", "beta1.b_in12k", "gamma1.c"]),
        ("search=alpha", ["alpha1.a_in1k", "alpha2.a_in1k"]),
        ("search=%25", []),
        ("family=alpha&family=gamma", ["alpha1.a_in1k", "alpha2.a_in1k", "gamma1.c"]),
        ("tag=b_in12k", ["beta1.b_in12k"]),
        ("min_parameters=20", ["alpha2.a_in1k", "beta1.b_in12k"]),
        ("max_parameters=20", ["alpha1.a_in1k", "alpha2.a_in1k"]),
        ("max_gmacs=1", ["alpha1.a_in1k", "beta1.b_in12k"]),
        ("max_input_size=300", ["alpha1.a_in1k", "alpha2.a_in1k", "gamma1.c"]),
        ("min_input_size=300", ["beta1.b_in12k"]),
        ("license=MIT", ["alpha2.a_in1k"]),
        ("source_dataset=imagenet-12k", ["beta1.b_in12k"]),
        ("max_weight_bytes=5000", ["alpha1.a_in1k", "alpha2.a_in1k", "beta1.b_in12k"]),
        ("min_top1=80", ["alpha1.a_in1k", "alpha2.a_in1k", "gamma1.c"]),
        ("min_images_per_second=1", []),
    ],
)
@pytest.mark.usefixtures("catalog")
def test_catalog_is_searched_by_every_fact(app_client: TestClient, query: str, expected: list[str]) -> None:
    assert names(app_client, f"source=timm&{query}") == expected


@pytest.mark.usefixtures("catalog")
def test_catalog_comes_in_pages(app_client: TestClient) -> None:
    first = app_client.get("/v1/models?source=timm&limit=3").json()
    second = app_client.get(f"/v1/models?source=timm&limit=3&cursor={first['next_cursor']}").json()
    assert [item["name"] for item in first["items"] + second["items"]] == [entry.name for entry in CATALOG]
    assert second["next_cursor"] is None


def test_registered_models_are_searched_by_measured_speed(app_client: TestClient, database: Database) -> None:
    registered(database, "fast", images_per_second=90.0)
    registered(database, "slow", images_per_second=10.0)
    registered(database, "unknown")
    assert names(app_client, "min_images_per_second=50") == ["fast"]


def test_license_with_a_note_is_found_by_its_name(app_client: TestClient, database: Database) -> None:
    registered(database, "noted", license="BSD-3-Clause (of somebody)")
    registered(database, "other", license="BSD-3-Clause-Clear")
    assert names(app_client, "license=bsd-3-clause") == ["noted"]


@pytest.mark.usefixtures("catalog")
def test_list_registers_what_is_missing_and_tells_what_cannot_be_had(
    app_client: TestClient, database: Database
) -> None:
    known = registered(database, "alpha1.a_in1k")
    body = {
        "name": "z",
        "models": ["alpha1.a_in1k", "beta1.b_in12k", "nobody.knows", "hf-hub:not a name", "alpha1.a_in1k"],
    }
    answer = app_client.post("/v1/zoos", json=body)
    assert answer.status_code == 201, answer.text
    zoo = answer.json()
    assert [(member["name"], member["state"]) for member in zoo["models"]] == [
        ("alpha1.a_in1k", "ready"),
        ("beta1.b_in12k", "pending"),
    ]
    assert zoo["models"][0]["id"] == known
    assert [entry["name"] for entry in zoo["unavailable"]] == ["nobody.knows", "hf-hub:not a name"]
    assert "nobody.knows" in zoo["unavailable"][0]["problem"]["detail"]
    assert app_client.get("/v1/models/beta1.b_in12k").json()["source_dataset"] == "imagenet-12k"


@pytest.mark.usefixtures("catalog")
def test_list_of_which_nothing_can_be_had_is_refused(app_client: TestClient) -> None:
    document = problem(app_client.post("/v1/zoos", json={"name": "z", "models": ["nobody.knows"]}), 422)
    assert document["errors"][0]["pointer"] == "/models/0"


@pytest.mark.parametrize("body", [{}, {"models": ["a"], "query": {}}])
def test_zoo_is_either_a_list_or_a_query(app_client: TestClient, body: dict[str, Any]) -> None:
    problem(app_client.post("/v1/zoos", json={"name": "z", **body}), 422)


def test_query_is_asked_anew_each_time(app_client: TestClient, database: Database) -> None:
    registered(database, "small", parameters=5)
    registered(database, "large", parameters=50)
    app_client.post("/v1/zoos", json={"name": "light", "query": {"max_parameters": 10}})
    assert [member["name"] for member in app_client.get("/v1/zoos/light").json()["models"]] == ["small"]
    registered(database, "tiny", parameters=1)
    assert [member["name"] for member in app_client.get("/v1/zoos/light").json()["models"]] == ["small", "tiny"]


@pytest.mark.usefixtures("catalog")
def test_query_over_the_catalog_registers_what_it_finds_when_a_ranking_starts(
    settings: Settings, app_client: TestClient, database: Database
) -> None:
    registered(database, "alpha1.a_in1k")
    body = {"name": "alphas", "query": {"source": "timm", "family": ["alpha"]}}
    created = app_client.post("/v1/zoos", json=body).json()
    assert ([member["name"] for member in created["models"]], created["unregistered"]) == (["alpha1.a_in1k"], 1)
    jobs = Jobs(settings, database)
    with database.transaction() as session:
        zoo = Zoos(session).find_with_members(LOCAL_CALLER, "alphas")
        assert zoo is not None
        found = zoos.resolve(session, jobs, LOCAL_CALLER, zoo)
    jobs.close()
    assert [(row.name, row.state.value) for row in found] == [("alpha1.a_in1k", "ready"), ("alpha2.a_in1k", "pending")]
    assert app_client.get("/v1/zoos/alphas").json()["unregistered"] == 0


def test_query_finds_only_what_its_caller_may_see(database: Database, settings: Settings) -> None:
    registered(database, "mine", owner="me")
    registered(database, "theirs", owner="them")
    registered(database, "ours", owner="them", shared=True)
    caller = Caller("me", frozenset({"read", "submit"}))
    with database.reading() as session:
        found, _ = zoos.find(session, caller, zoos.ZooQuery())
    assert [row.name for row in found] == ["mine", "ours"]


def test_ranking_of_a_query_that_finds_nothing_is_refused(app_client: TestClient) -> None:
    app_client.post("/v1/datasets", json={"location": "builtin:digits"})
    app_client.post("/v1/zoos", json={"name": "none", "query": {"max_parameters": 1}})
    document = problem(app_client.post("/v1/rankings", json={"target": "digits", "zoo": "none"}), 422)
    assert document["errors"][0]["pointer"] == "/zoo"


def test_ranking_of_a_query_holds_the_models_that_it_found(app_client: TestClient, database: Database) -> None:
    registered(database, "small", parameters=5)
    app_client.post("/v1/datasets", json={"location": "builtin:digits"})
    app_client.post("/v1/zoos", json={"name": "light", "query": {"max_parameters": 10}})
    ranking = app_client.post("/v1/rankings", json={"target": "digits", "zoo": "light"}).json()
    registered(database, "tiny", parameters=1)
    rows = app_client.get(f"/v1/rankings/{ranking['id']}/results").json()["models"]
    assert [row["model"] for row in rows] == ["small"]
