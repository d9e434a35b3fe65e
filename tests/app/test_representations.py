"""Answers as JSON and CSV, and 304 for what a client has."""

import pytest
from starlette.testclient import TestClient

from app.api.representations import quality
from app.contracts.states import ModelRunState, RankingState
from app.db.repositories.rankings import Rankings
from app.db.session import Database

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
    ("accept", "weight"),
    [
        ("", 0),
        ("*/*", 1),
        ("text/html", 1),
        ("text/html;q=0.3, */*;q=0.1", 0.3),
        ("text/*;q=0.5, */*", 0.5),
        ("TEXT/HTML", 1),
        ("text/html;q=x", 0),
        (";;,,", 0),
    ],
)
def test_most_specific_range_decides(accept: str, weight: float) -> None:
    assert quality(accept, "text/html") == weight


@pytest.mark.parametrize("path", PATHS)
def test_what_may_still_change_has_no_tag(app_client: TestClient, ranking: str, path: str) -> None:
    response = app_client.get(f"/v1/rankings/{ranking}{path}", headers={"If-None-Match": "*"})
    assert response.status_code == 200
    assert "etag" not in response.headers


@pytest.mark.parametrize("path", PATHS)
def test_finished_ranking_is_sent_once(app_client: TestClient, database: Database, ranking: str, path: str) -> None:
    with database.transaction() as session:
        rankings = Rankings(session)
        rankings.end_unfinished_runs(ranking, ModelRunState.FAILED, None)
        assert rankings.move(ranking, RankingState.RUNNING)
        assert rankings.move(ranking, RankingState.SUCCEEDED)
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
def test_csv_has_an_address_of_its_own(app_client: TestClient, ranking: str, path: str) -> None:
    table = app_client.get(f"/v1/rankings/{ranking}{path}.csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.text.splitlines()[0].split(",")[:2] in (["model", "model_id"], ["ensemble", "method"])
    as_json = app_client.get(f"/v1/rankings/{ranking}{path}", headers={"Accept": "text/csv"})
    assert as_json.headers["content-type"] == "application/json"
