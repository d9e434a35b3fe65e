"""Values at and beyond the edge of what can be stored or computed: each is refused with its place."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api import strict_json
from app.api.problems import MOST_ERRORS
from app.contracts.base import LONGEST_LIST
from app.errors import Invalid
from app.settings import Settings
from tests.app.test_frame import problem
from tests.conftest import NewDatabase, local_client

JSON = {"Content-Type": "application/json"}
RANKING = {"target": "digits", "models": ["m"]}


def pointers(document: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in document["errors"]]


@pytest.fixture(scope="module")
def settings(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of one deployment for all tests here that are refused before a database is asked."""
    folder = tmp_path_factory.mktemp("deployment")
    for name in ("images", "weights"):
        (folder / name).mkdir()
        (folder / name / "circle").symlink_to(folder / name / "circle")
    return Settings(
        home=folder / "home",
        database_url=new_sqlite(),
        data_roots=(folder / "images",),
        model_roots=(folder / "weights",),
    )


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    """Of that deployment."""
    with local_client(settings) as client:
        yield client


@pytest.fixture
def both_clients(database_url: str, settings: Settings) -> Iterator[TestClient]:
    """Where the database may refuse: one of each kind."""
    with local_client(Settings(**(settings.model_dump(exclude_unset=True) | {"database_url": database_url}))) as client:
        yield client


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00%2B00:01"]
)
@pytest.mark.parametrize("parameter", ["created_after", "created_before"])
def test_moment_outside_the_calendar_is_refused(both_clients: TestClient, parameter: str, moment: str) -> None:
    document = problem(both_clients.get("/v1/rankings", params={parameter: moment.replace("%2B", "+")}), 422)
    assert pointers(document) == [f"/query/{parameter}"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_moment_at_the_edge_of_the_calendar_is_read(both_clients: TestClient, moment: str) -> None:
    assert both_clients.get("/v1/models", params={"created_after": moment}).status_code == 200


@pytest.mark.parametrize("kind", ["endless part", "circle of links", "endless path"])
@pytest.mark.parametrize("route", ["folder", "manifest", "weights", "local-dir"])
def test_path_that_the_system_refuses(client: TestClient, settings: Settings, kind: str, route: str) -> None:
    root = settings.data_roots[0] if route in ("folder", "manifest") else settings.model_roots[0]
    tail = {"endless part": "n" * 256, "circle of links": "circle", "endless path": "n/" * 2040 + "n"}[kind]
    requests: dict[str, tuple[str, dict[str, Any], str]] = {
        "folder": ("/v1/datasets", {"location": f"{root}/{tail}"[:4096]}, "/location"),
        "manifest": ("/v1/datasets", {"location": str(root), "manifest": tail[:1024]}, "/manifest"),
        "weights": (
            "/v1/models",
            {"name": "x", "architecture": "resnet18", "weights": f"{root}/{tail}"[:4096]},
            "/weights",
        ),
        "local-dir": ("/v1/models", {"name": "x", "model": f"local-dir:{root}/{tail}"[:300]}, "/model"),
    }
    path, body, pointer = requests[route]
    assert pointers(problem(client.post(path, json=body), 422)) == [pointer]


def test_folder_whose_name_is_too_long_for_a_name_needs_one(both_clients: TestClient, settings: Settings) -> None:
    folder = settings.data_roots[0] / ("n" * 250)
    (folder / "class").mkdir(parents=True, exist_ok=True)
    assert pointers(problem(both_clients.post("/v1/datasets", json={"location": str(folder)}), 422)) == ["/name"]
    assert both_clients.post("/v1/datasets", json={"location": str(folder), "name": "short"}).status_code == 202


@pytest.mark.parametrize("parameter", ["search", "family", "license"])
def test_control_character_in_a_filter_is_refused(client: TestClient, parameter: str) -> None:
    answer = problem(client.get("/v1/models", params={parameter: "a\x03b"}), 422)
    assert pointers(answer)[0].startswith(f"/query/{parameter}")


@pytest.mark.parametrize("host", ["[", "]", "[::1", "a:b", "a:99999"])
@pytest.mark.parametrize("path", ["/livez", "/v1/datasets", "/nowhere", "/openapi.json"])
def test_malformed_host_is_refused(client: TestClient, host: str, path: str) -> None:
    assert pointers(problem(client.get(path, headers={"Host": host}), 400)) == ["/header/Host"]


@pytest.mark.parametrize("origin", ["http://[", "http://[::1"])
def test_malformed_origin_is_refused(client: TestClient, origin: str) -> None:
    assert pointers(problem(client.get("/v1/datasets", headers={"Origin": origin}), 400)) == ["/header/Origin"]


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**400])
@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/rankings", {"metrics": [{"name": "tmi", "parameters": {"neighbors": "N"}}]}, "neighbors"),
        ("/v1/rankings", {"ensembles": [{"size": 2, "max_parameters": "N"}]}, "max_parameters"),
        ("/v1/rankings", {"sample": {"seed": "N"}}, "seed"),
        ("/v1/models", {"name": "x", "weights": "/x", "architecture": "x", "arguments": {"depth": "N"}}, "depth"),
    ],
)
def test_integer_of_more_than_64_bits_is_refused(
    client: TestClient, path: str, body: dict[str, Any], pointer: str, number: int
) -> None:
    text = json.dumps((RANKING if path == "/v1/rankings" else {}) | body).replace('"N"', str(number))
    (named,) = pointers(problem(client.post(path, content=text, headers=JSON), 422))
    assert named.endswith(f"/{pointer}")


def test_sent_metric_parameters_are_bounded_too(client: TestClient) -> None:
    metrics = f'[{{"name": "tmi", "parameters": {{"neighbors": {2**64}}}}}]'
    response = client.post("/v1/scores", files={"evidence": ("e", b"x")}, data={"metrics": metrics})
    assert pointers(problem(response, 422)) == ["/metrics/0/parameters/neighbors"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"layers": [1] * 900_000}, "/layers"),
        ({"models": ["m"] * (LONGEST_LIST + 1)}, "/models"),
        ({"metrics": [{"name": "tmi", "parameters": {"neighbors": [[1] * 900_000]}}]}, "parameters/neighbors/0"),
    ],
)
def test_endless_list_is_refused_in_few_words(client: TestClient, body: dict[str, Any], pointer: str) -> None:
    response = client.post("/v1/rankings", json=RANKING | body)
    assert pointers(problem(response, 422))[0].endswith(pointer)
    assert len(response.content) < 1000


def test_many_values_in_short_lists_are_refused() -> None:
    with pytest.raises(Invalid, match="more than 50000 values"):
        strict_json.check({str(number): [0] * 1000 for number in range(60)})


@pytest.mark.parametrize(
    "body",
    [
        {"layers": [1] * 50},
        {"models": [1] * LONGEST_LIST},
        {"ensembles": [{"size": -1, "top": 0}] * 20},
        {"metrics": ["m" * 64] * 50},
        {f"member-{number}" * 20: 1 for number in range(4000)},
        {"models": [f"none-{number}" for number in range(LONGEST_LIST)]},
        {"k" * 1_000_000: 1},
    ],
    ids=["layers", "models", "ensembles", "metrics", "members", "unknown models", "endless name"],
)
def test_answer_names_the_first_of_many_errors(client: TestClient, body: dict[str, Any]) -> None:
    client.post("/v1/datasets", json={"location": "builtin:digits"})
    response = client.post("/v1/rankings", json=RANKING | body)
    document = problem(response, 422)
    assert 1 <= len(document["errors"]) <= MOST_ERRORS
    assert document.get("error_count", len(document["errors"])) >= len(document["errors"])
    assert len(response.content) < 20_000


def test_lists_of_every_request_are_bounded_in_the_document(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    requests = [
        operation["requestBody"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    ]
    followed: set[str] = set()

    def arrays(schema: Any) -> list[dict[str, Any]]:
        if isinstance(schema, list):
            return [found for item in schema for found in arrays(item)]
        if not isinstance(schema, dict):
            return []
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            followed.add(reference)
            return arrays(schemas[reference.rpartition("/")[2]])
        inner = [found for key, item in schema.items() if key != "examples" for found in arrays(item)]
        return ([schema] if schema.get("type") == "array" else []) + inner

    found = [array for request in requests for array in arrays(request)]
    assert len(found) > 8
    assert [array for array in found if "maxItems" not in array] == []


def test_weights_in_a_folder_of_the_roots_are_still_found(client: TestClient, settings: Settings) -> None:
    """The refusals above do not come from a rule that refuses everything."""
    weights: Path = settings.model_roots[0] / "w.safetensors"
    weights.write_bytes(b"x")
    body = {"name": "x", "architecture": "resnet18", "weights": str(weights)}
    assert client.post("/v1/models", json=body).status_code == 202
