"""Schedules over HTTP: what may be asked, what changes of state do, and what the engine holds."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.contracts.schedules import RunReport
from app.contracts.states import ResourceState, RunState
from app.db.repositories.models import Models
from app.db.repositories.schedules import ScheduleRuns
from app.db.schedule_tables import ScheduleRun
from app.db.session import Database
from app.db.tables import Model, now
from app.jobs import HeldSchedule, Jobs
from app.settings import Settings
from tests.app.test_frame import problem
from tests.app.test_keys import make_key


@pytest.fixture
def jobs(settings: Settings, database: Database) -> Iterator[Jobs]:
    jobs = Jobs(settings, database)
    yield jobs
    jobs.close()


@pytest.fixture
def client(app_client: TestClient, database: Database) -> TestClient:
    """A client of an API that knows a data set and a zoo."""
    with database.transaction() as session:
        Models(session).add(Model(name="m", spec={"kind": "timm", "name": "m"}, state=ResourceState.READY))
    assert app_client.post("/v1/datasets", json={"location": "builtin:digits"}).status_code == 202
    assert app_client.post("/v1/zoos", json={"name": "zoo", "models": ["m"]}).status_code == 201
    return app_client


BODY = {"name": "nightly", "cron": "0 2 * * *", "zoo": "zoo", "targets": ["digits"], "metrics": ["leep"]}


def create(client: TestClient, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/schedules", json={**BODY, **more})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def test_engine_holds_what_was_created(client: TestClient, jobs: Jobs) -> None:
    created = create(client, time_zone="Europe/Berlin")
    assert jobs.held() == {created["id"]: HeldSchedule("0 2 * * *", "Europe/Berlin")}


def test_next_runs_are_told(client: TestClient) -> None:
    times = [datetime.fromisoformat(moment) for moment in create(client)["next_runs"]]
    assert len(times) == 5
    assert all(moment.hour == 2 and moment > now() for moment in times)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"cron": "0 25 * * *"}, "/cron"),
        ({"cron": "* * * * * *"}, "/cron"),
        ({"time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"zoo": "nowhere"}, "/zoo"),
        ({"targets": ["digits", "nowhere"]}, "/targets/1"),
        ({"metrics": ["guess"]}, "/metrics/0"),
        ({"webhook": "nowhere"}, "/webhook"),
        ({"reference": "nowhere"}, "/reference"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(client: TestClient, change: dict[str, Any], pointer: str) -> None:
    document = problem(client.post("/v1/schedules", json={**BODY, **change}), 422)
    assert document["errors"][0]["pointer"] == pointer


def test_name_is_taken_once(client: TestClient) -> None:
    create(client)
    problem(client.post("/v1/schedules", json=BODY), 409)


def test_paused_schedule_is_not_held_and_resumed_is(client: TestClient, jobs: Jobs) -> None:
    created = create(client)
    paused = client.post("/v1/schedules/nightly/pause").json()
    assert (paused["state"], paused["next_run_at"], jobs.held()) == ("paused", None, {})
    problem(client.post("/v1/schedules/nightly/pause"), 409)
    assert client.post("/v1/schedules/nightly/resume").json()["state"] == "active"
    assert set(jobs.held()) == {created["id"]}


def test_replaced_schedule_is_held_as_it_is_now(client: TestClient, jobs: Jobs) -> None:
    created = create(client)
    answer = client.put("/v1/schedules/nightly", json={**BODY, "name": "weekly", "cron": "0 3 * * 1"})
    assert (answer.status_code, answer.json()["id"]) == (200, created["id"])
    assert jobs.held() == {created["id"]: HeldSchedule("0 3 * * 1", "UTC")}


def test_deleted_schedule_is_forgotten(client: TestClient, jobs: Jobs) -> None:
    create(client)
    assert client.delete("/v1/schedules/nightly").status_code == 204
    assert jobs.held() == {}
    problem(client.get("/v1/schedules/nightly"), 404)


def test_run_by_hand_is_refused_while_another_is_under_way(client: TestClient) -> None:
    create(client)
    first = client.post("/v1/schedules/nightly/runs")
    assert (first.status_code, first.json()["by_hand"], first.json()["state"]) == (202, True, "queued")
    problem(client.post("/v1/schedules/nightly/runs"), 409)
    problem(client.delete("/v1/schedules/nightly"), 409)


def test_runs_come_in_pages_newest_first(client: TestClient, database: Database) -> None:
    schedule = create(client)["id"]
    with database.transaction() as session:
        for _ in range(3):
            ScheduleRuns(session).add(ScheduleRun(schedule_id=schedule, scheduled_at=now(), state=RunState.SUCCEEDED))
    first = client.get("/v1/schedules/nightly/runs?limit=2").json()
    second = client.get(f"/v1/schedules/nightly/runs?limit=2&cursor={first['next_cursor']}").json()
    seen = [run["id"] for run in first["items"] + second["items"]]
    assert (seen, second["next_cursor"]) == (sorted(seen, reverse=True), None)
    assert client.get("/v1/schedules/nightly/runs/latest").json()["id"] == seen[0]


def test_page_of_a_zoo_shows_its_schedules_with_their_newest_runs(client: TestClient, database: Database) -> None:
    schedule = create(client)["id"]
    assert client.post("/v1/zoos", json={"name": "other", "models": ["m"]}).status_code == 201
    with database.transaction() as session:
        for state in (RunState.FAILED, RunState.SKIPPED):
            ScheduleRuns(session).add(ScheduleRun(schedule_id=schedule, scheduled_at=now(), state=state))
    page = client.get("/zoos/zoo").text
    assert ("nightly" in page, "skipped" in page, "failed" in page) == (True, True, False)
    assert "No schedule ranks this zoo." in client.get("/zoos/other").text


def test_run_of_another_schedule_is_not_found(client: TestClient) -> None:
    create(client)
    create(client, name="other")
    run = client.post("/v1/schedules/other/runs").json()["id"]
    problem(client.get(f"/v1/schedules/nightly/runs/{run}"), 404)


def test_report_has_three_forms(client: TestClient) -> None:
    create(client)
    run = client.post("/v1/schedules/nightly/runs").json()["id"]
    address = f"/v1/schedules/nightly/runs/{run}/report"
    assert client.get(address).json()["targets"] == []
    assert client.get(f"{address}.csv").text.splitlines() == ["target,change,model,rank_before,rank_now,detail"]
    assert client.get(f"{address}.md").text.startswith("# nightly")


def test_schedule_of_another_key_is_not_changed(client: TestClient, database: Database) -> None:
    create(client, shared=True)
    key = {"X-API-Key": make_key(database, "submit")}
    assert client.get("/v1/schedules/nightly", headers=key).status_code == 200
    for method, path in (("POST", "/pause"), ("POST", "/runs"), ("DELETE", "")):
        problem(client.request(method, f"/v1/schedules/nightly{path}", headers=key), 403)


def test_a_report_that_an_earlier_version_stored_is_read() -> None:
    target = {
        "target": "d", "target_id": None, "ranking_id": None, "previous_ranking_id": None, "data": "inspected again",
        "problem": None, "best": None, "new_best": False, "entered": [], "left": [], "moved": [], "failed": [],
        "computed": [], "reused": 0, "counters": {}, "seconds": None,
    }  # fmt: skip
    stored = {
        "run_id": "r", "schedule_id": "s", "schedule": "nightly", "scheduled_at": "2026-01-01T00:00:00Z",
        "finished_at": None, "state": "succeeded", "seconds": None, "computed": 0, "reused": 0, "targets": [target],
    }  # fmt: skip
    (read,) = RunReport.model_validate(stored).targets
    assert (read.data_change, read.counters.images_decoded) == ("inspected again", 0)
