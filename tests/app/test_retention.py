"""Retention over HTTP: asked for by admins, carried out by workers, logged."""

from starlette.testclient import TestClient

from app.contracts.retention import Kind, Removal, Rule
from app.contracts.states import RunState
from app.db.repositories.retention import RetentionRuns
from app.db.retention_tables import RetentionRun
from app.db.session import Database
from tests.app.test_frame import problem
from tests.app.test_keys import make_key


def test_it_is_dry_unless_it_is_said_to_remove(app_client: TestClient) -> None:
    answer = app_client.post("/v1/retention/runs", json={})
    assert (answer.status_code, answer.json()["dry_run"], answer.json()["state"]) == (202, True, "queued")
    assert app_client.get(answer.headers["Location"]).json()["id"] == answer.json()["id"]
    assert app_client.post("/v1/retention/runs", json={"dry_run": False}).json()["dry_run"] is False


def test_what_went_is_told(app_client: TestClient, database: Database) -> None:
    removal = Removal(
        kind=Kind.RANKINGS, rule=Rule(days=30), removed=2, bytes=1000, kept=1, examples=("rnk_1", "rnk_2")
    )
    with database.transaction() as session:
        run = RetentionRun(dry_run=False, by_hand=False, state=RunState.SUCCEEDED, removals=(removal,))
        RetentionRuns(session).add(run)
    (shown,) = app_client.get("/v1/retention/runs").json()["items"]
    assert shown["removals"] == [
        {
            "kind": "rankings",
            "rule": {"days": 30.0, "newest": None},
            "removed": 2,
            "bytes": 1000,
            "kept": 1,
            "examples": ["rnk_1", "rnk_2"],
        }
    ]


def test_only_admins_see_it_or_ask_for_it(app_client: TestClient, database: Database) -> None:
    key = {"X-API-Key": make_key(database, "read", "submit")}
    problem(app_client.get("/v1/retention/runs", headers=key), 403)
    problem(app_client.get("/v1/retention/runs/ret_1", headers=key), 403)
    problem(app_client.post("/v1/retention/runs", json={"dry_run": False}, headers=key), 403)


def test_run_that_is_not_there_is_not_found(app_client: TestClient) -> None:
    problem(app_client.get("/v1/retention/runs/ret_nowhere"), 404)
