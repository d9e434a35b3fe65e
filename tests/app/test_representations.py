"""Answers as JSON or CSV, and 304 for what a client has."""

import pytest
from starlette.testclient import TestClient

from app.api.representations import prefers_csv
from app.db.session import Database
from tests.app.test_events import end

PATHS = ["", "/results", "/results.csv", "/ensembles", "/ensembles.csv"]


@pytest.fixture
def ranking(app_client: TestClient) -> str:
    """A ranking that waits."""
    app_client.post("/v1/datasets", json={"location": "builtin:digits"})
    app_client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
    body = {"target": "digits", "models": ["resnet18.a1_in1k"], "metrics": ["logme"]}
    response = app_client.post("/v1/rankings", json=body)
    assert response.status_code == 202, response.text
    identifier: str = response.json()["id"]
    return identifier


@pytest.mark.parametrize(
    ("accept", "csv"),
    [
        ("", False),
        ("*/*", False),
        ("text/csv", True),
        ("text/csv, */*;q=0.1", True),
        ("application/json, text/csv", False),
        ("application/json;q=0.5, text/csv;q=0.6", True),
        ("text/*", True),
        ("text/csv;q=0", False),
        ("TEXT/CSV", True),
        ("text/csv;q=x", False),
        (";;,,", False),
    ],
)
def test_accept_decides(accept: str, csv: bool) -> None:
    assert prefers_csv(accept) is csv


@pytest.mark.parametrize("path", PATHS)
def test_what_may_still_change_has_no_tag(app_client: TestClient, ranking: str, path: str) -> None:
    response = app_client.get(f"/v1/rankings/{ranking}{path}", headers={"If-None-Match": "*"})
    assert response.status_code == 200
    assert "etag" not in response.headers


@pytest.mark.parametrize("path", PATHS)
def test_finished_ranking_is_sent_once(app_client: TestClient, database: Database, ranking: str, path: str) -> None:
    end(database, ranking)
    url = f"/v1/rankings/{ranking}{path}"
    first = app_client.get(url)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert app_client.get(url).headers["etag"] == tag
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = app_client.get(url, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert app_client.get(url, headers={"If-None-Match": '"other"'}).content == first.content


@pytest.mark.parametrize("path", ["/results", "/ensembles"])
def test_suffix_and_accept_give_the_same_table(
    app_client: TestClient, database: Database, ranking: str, path: str
) -> None:
    end(database, ranking)
    by_suffix = app_client.get(f"/v1/rankings/{ranking}{path}.csv")
    by_accept = app_client.get(f"/v1/rankings/{ranking}{path}", headers={"Accept": "text/csv"})
    as_json = app_client.get(f"/v1/rankings/{ranking}{path}", headers={"Accept": "application/json"})
    assert by_suffix.headers["content-type"] == by_accept.headers["content-type"] == "text/csv; charset=utf-8"
    assert by_suffix.content == by_accept.content
    assert by_suffix.headers["etag"] == by_accept.headers["etag"] != as_json.headers["etag"]
    assert by_accept.headers["vary"] == as_json.headers["vary"] == "Accept"
