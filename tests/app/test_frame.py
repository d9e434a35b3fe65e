"""Request ids, problem documents, limits on bodies, probes, measurements."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import Message

from app.api.frame import bound_body
from app.api.route import Route
from app.api.strict_json import DEEPEST
from app.db.repositories.workers import Workers
from app.db.session import Database
from app.main import create_app
from app.settings import Settings
from tests.conftest import local_client


def problem(response: Any, status: int) -> dict[str, Any]:
    """The problem document of a response that must be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["type"].startswith("urn:forerank:problem:")
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def test_request_id_that_is_sent_comes_back(app_client: TestClient) -> None:
    assert app_client.get("/livez", headers={"X-Request-ID": "trace-1:a.b"}).headers["x-request-id"] == "trace-1:a.b"


@pytest.mark.parametrize("given", ["a b", "a" * 65, "", "<script>"])
def test_request_id_that_could_harm_a_log_is_replaced(app_client: TestClient, given: str) -> None:
    assert app_client.get("/livez", headers={"X-Request-ID": given}).headers["x-request-id"].startswith("req_")


def test_unknown_path_is_a_problem(app_client: TestClient) -> None:
    assert "/v1/nothing" in problem(app_client.get("/v1/nothing"), 404)["detail"]


def test_wrong_method_is_a_problem_that_names_the_right_ones(app_client: TestClient) -> None:
    response = app_client.put("/v1/rankings")
    problem(response, 405)
    assert set(response.headers["allow"].split(", ")) == {"GET", "POST"}


def test_invalid_body_names_each_place(app_client: TestClient) -> None:
    document = problem(app_client.post("/v1/datasets", json={"location": 5, "nmae": "x"}), 422)
    assert {error["pointer"] for error in document["errors"]} == {"/location", "/nmae"}


def test_invalid_query_names_the_parameter(app_client: TestClient) -> None:
    document = problem(app_client.get("/v1/datasets?limit=0&cursor=!"), 422)
    assert {error["pointer"] for error in document["errors"]} == {"/query/limit", "/query/cursor"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"location": ',
        b'{"location": NaN}',
        b'{"location": -Infinity}',
        b'{"location": 1e999}',
        b'{"location": "\\u0000"}',
        b'{"location": "\\ud800"}',
        b'{"\\u0000": 1}',
        b'{"location": ' + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1) + b"}",
        b"[" * 500_000,
        b'{"location": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
    ],
)
def test_body_that_is_not_sound_json_is_refused(app_client: TestClient, body: bytes) -> None:
    problem(app_client.post("/v1/datasets", content=body, headers={"Content-Type": "application/json"}), 400)


def test_body_of_another_type_is_refused(app_client: TestClient) -> None:
    response = app_client.post("/v1/rankings", content=b"target=x", headers={"Content-Type": "text/plain"})
    problem(response, 415)


def test_null_character_in_an_address_is_refused(app_client: TestClient) -> None:
    problem(app_client.get("/v1/datasets/%00"), 400)
    problem(app_client.get("/v1/datasets?owner=%00"), 400)


@pytest.fixture
def broken_client(settings: Settings) -> Iterator[TestClient]:
    """A client of an application with a route that fails."""
    app = create_app(settings)
    router = APIRouter(route_class=Route)

    @router.get("/broken")
    def broken() -> None:
        raise RuntimeError("the password is hunter2")

    app.include_router(router)
    with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1)) as client:
        yield client


def test_unexpected_error_leaks_nothing(broken_client: TestClient) -> None:
    assert "hunter2" not in json.dumps(problem(broken_client.get("/broken"), 500))


def test_body_over_the_limit_is_refused(settings: Settings) -> None:
    with local_client(settings.model_copy(update={"body_limit_megabytes": 0.001})) as client:
        problem(client.post("/v1/datasets", content=b" " * 1001, headers={"Content-Type": "application/json"}), 413)


def _read_all(messages: list[Message], *, headers: dict[str, str], limit: float, settings: Settings) -> int:
    async def receive() -> Message:
        if not messages:
            await asyncio.sleep(3600)
        return messages.pop(0)

    async def read() -> int:
        bounded = bound_body(receive, Headers(headers), limit=limit, settings=settings)
        total = 0
        while True:
            message = await bounded()
            total += len(message["body"])
            if not message["more_body"]:
                return total

    return asyncio.run(read())


def _chunk(size: int, *, more: bool) -> Message:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


def test_bytes_are_counted_whatever_the_length_says() -> None:
    chunks = [_chunk(60, more=True), _chunk(60, more=False)]
    with pytest.raises(HTTPException) as caught:
        _read_all(chunks, headers={"content-length": "10"}, limit=100, settings=Settings())
    assert caught.value.status_code == 413


def test_body_up_to_the_limit_is_read() -> None:
    chunks = [_chunk(60, more=True), _chunk(40, more=False)]
    assert _read_all(chunks, headers={}, limit=100, settings=Settings()) == 100


def test_client_that_stops_sending_is_given_up() -> None:
    with pytest.raises(HTTPException) as caught:
        _read_all([_chunk(5, more=True)], headers={}, limit=100, settings=Settings(body_grace_seconds=0.05))
    assert caught.value.status_code == 408


def test_alive_says_so(app_client: TestClient) -> None:
    assert app_client.get("/livez").json() == {"status": "alive"}


def test_not_ready_without_a_worker(app_client: TestClient) -> None:
    document = problem(app_client.get("/readyz"), 503)
    assert [error["pointer"] for error in document["errors"]] == ["/workers"]


def test_ready_with_a_worker(app_client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        Workers(session).register(identifier="w", host="h", boot="b", pid=1, device="cpu")
    assert app_client.get("/readyz").json() == {"status": "ready", "workers": 1}


def test_not_ready_when_the_tables_are_gone(app_client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        session.connection().exec_driver_sql("DROP TABLE workers")
    document = problem(app_client.get("/readyz"), 503)
    assert [error["pointer"] for error in document["errors"]] == ["/database"]


def test_measurements_are_labelled_by_template(app_client: TestClient) -> None:
    app_client.get("/v1/datasets/one")
    app_client.get("/v1/datasets/two")
    app_client.get("/elsewhere")
    lines = app_client.get("/metrics").text.splitlines()
    assert 'forerank_http_requests_total{method="GET",route="/v1/datasets/{dataset}",status="404"} 2.0' in lines
    assert 'forerank_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in lines
