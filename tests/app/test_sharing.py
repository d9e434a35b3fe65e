"""What one key may do with the things of another, and what it is told of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from starlette.testclient import TestClient

from app.contracts.states import ResourceState
from app.db.repositories.models import Models
from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.db.tables import Dataset, Model
from app.settings import Settings
from tests.app.test_frame import problem
from tests.app.test_keys import make_key
from tests.conftest import local_client


@dataclass
class Keys:
    """A and B, two submitters, and an admin."""

    client: TestClient
    a: dict[str, str]
    b: dict[str, str]
    admin: dict[str, str]


@pytest.fixture
def keys(settings: Settings, database: Database) -> Iterator[Keys]:
    """A has shared two models, of which B has made a zoo that B does not share, and one that B does."""
    secrets = [
        make_key(database, scope, name=name) for name, scope in (("a", "submit"), ("b", "submit"), ("c", "admin"))
    ]
    with local_client(settings.model_copy(update={"require_keys": True})) as client:
        made = Keys(client, *({"X-API-Key": secret} for secret in secrets))
        for name in ("one.a1_in1k", "two.a1_in1k"):
            assert client.post("/v1/models", json={"model": name, "shared": True}, headers=made.a).status_code == 202
        for name, shared in (("private-zoo-of-b", False), ("shared-zoo-of-b", True)):
            body = {"name": name, "models": ["one.a1_in1k", "two.a1_in1k"], "shared": shared}
            assert client.post("/v1/zoos", json=body, headers=made.b).status_code == 201
        client.post("/v1/datasets", json={"location": "builtin:digits"}, headers=made.b)
        yield made


def unshare(keys: Keys, model: str) -> None:
    assert keys.client.patch(f"/v1/models/{model}", json={"shared": False}, headers=keys.a).status_code == 200


def ranked(keys: Keys, headers: dict[str, str], zoo: str) -> list[str]:
    answer = keys.client.post("/v1/rankings", json={"target": "digits", "zoo": zoo}, headers=headers)
    assert answer.status_code == 202, answer.text
    results = keys.client.get(f"{answer.headers['location']}/results", headers=headers).json()
    return [row["model"] for row in results["models"]]


@pytest.mark.parametrize("zoo", ["private-zoo-of-b", "shared-zoo-of-b"])
def test_unshared_model_is_left_out_of_the_zoos_of_others(keys: Keys, zoo: str) -> None:
    assert ranked(keys, keys.b, zoo) == ["one.a1_in1k", "two.a1_in1k"]
    unshare(keys, "one.a1_in1k")
    assert ranked(keys, keys.b, zoo) == ["two.a1_in1k"]
    shown = keys.client.get(f"/v1/zoos/{zoo}", headers=keys.b).json()
    assert [model["name"] for model in shown["models"]] == ["two.a1_in1k"]
    (listed,) = (each for each in keys.client.get("/v1/zoos", headers=keys.b).json()["items"] if each["name"] == zoo)
    assert listed == shown


def test_zoo_of_which_nothing_is_left_cannot_be_ranked(keys: Keys) -> None:
    unshare(keys, "one.a1_in1k")
    unshare(keys, "two.a1_in1k")
    body = {"target": "digits", "zoo": "private-zoo-of-b"}
    document = problem(keys.client.post("/v1/rankings", json=body, headers=keys.b), 422)
    assert [error["pointer"] for error in document["errors"]] == ["/zoo"]


def test_owner_may_delete_a_model_that_is_in_the_zoos_of_others(keys: Keys) -> None:
    answer = keys.client.delete("/v1/models/one.a1_in1k", headers=keys.a)
    assert answer.status_code == 204, answer.text
    shown = keys.client.get("/v1/zoos/private-zoo-of-b", headers=keys.b).json()
    assert [model["name"] for model in shown["models"]] == ["two.a1_in1k"]


def test_refused_deletion_names_nothing_of_another_key(keys: Keys) -> None:
    body = {"target": "digits", "models": ["one.a1_in1k"], "name": "ranking-of-b"}
    identifier = keys.client.post("/v1/rankings", json=body, headers=keys.b).json()["id"]
    detail = problem(keys.client.delete("/v1/models/one.a1_in1k", headers=keys.a), 409)["detail"]
    assert "1 of other keys" in detail
    for name in (identifier, "ranking-of-b", "zoo-of-b"):
        assert name not in detail


def test_refused_deletion_names_what_is_ones_own(keys: Keys) -> None:
    body = {"name": "zoo-of-a", "models": ["one.a1_in1k"]}
    assert keys.client.post("/v1/zoos", json=body, headers=keys.a).status_code == 201
    assert "zoo-of-a" in problem(keys.client.delete("/v1/models/one.a1_in1k", headers=keys.a), 409)["detail"]
    as_admin = problem(keys.client.delete("/v1/models/one.a1_in1k", headers=keys.admin), 409)["detail"]
    assert "private-zoo-of-b" in as_admin


def test_ranking_that_starts_after_the_unsharing_does_without_the_model(keys: Keys, database: Database) -> None:
    """The worker asks when it starts a ranking."""
    submitted = {
        who: keys.client.post(
            "/v1/rankings", json={"target": "digits", "models": ["one.a1_in1k", "two.a1_in1k"]}, headers=headers
        )
        for who, headers in (("b", keys.b), ("admin", keys.admin))
        if who == "b" or keys.client.post("/v1/datasets", json={"location": "builtin:digits"}, headers=headers)
    }
    own = keys.client.get("/v1/models/one.a1_in1k", headers=keys.a).json()["id"]
    unshare(keys, "one.a1_in1k")
    with database.reading() as session:
        withdrawn = {
            who: Models(session).withdrawn(Rankings(session).get(answer.json()["id"]))  # type: ignore[arg-type]
            for who, answer in submitted.items()
        }
    assert withdrawn == {"b": {own}, "admin": set()}


def test_data_set_in_use_by_another_key_is_not_named(keys: Keys, database: Database) -> None:
    with database.transaction() as session:
        owner = session.query(Model).first().owner  # type: ignore[union-attr]
        session.add(Dataset(name="of-a", spec={"kind": "builtin", "name": "digits"}, owner=owner, shared=True))
    body = {"target": "of-a", "models": ["one.a1_in1k"]}
    identifier = keys.client.post("/v1/rankings", json=body, headers=keys.b).json()["id"]
    detail = problem(keys.client.delete("/v1/datasets/of-a", headers=keys.a), 409)["detail"]
    assert identifier not in detail
    assert "1 of other keys" in detail
    assert ResourceState.PENDING.value not in detail
