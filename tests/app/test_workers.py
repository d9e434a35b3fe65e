"""Who computes, and what."""

from sqlalchemy import column, table, update
from starlette.testclient import TestClient

from app.db.repositories.workers import Workers
from app.db.session import Database


def claim_everything(database: Database, worker: str) -> None:
    """What the engine writes when a worker takes jobs, a moment ago as it says."""
    with database.transaction() as session:
        schema = None if database.is_sqlite else "dbos"
        names = ("status", "executor_id", "started_at_epoch_ms")
        jobs = table("workflow_status", *(column(name) for name in names), schema=schema)
        session.execute(update(jobs).values(status="PENDING", executor_id=worker, started_at_epoch_ms=1))


def test_worker_says_what_it_does(app_client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        for name in ("one", "two"):
            Workers(session).register(identifier=name, host="h", boot="b", pid=1, device="cpu")
    app_client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
    claim_everything(database, "one")
    jobs = {worker["id"]: worker["jobs"] for worker in app_client.get("/v1/workers").json()}
    assert [job["activity"] for job in jobs["one"]] == ["inspecting a model"]
    assert jobs["two"] == []


def test_seconds_of_a_job_are_counted_by_the_clock_of_the_database(app_client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        Workers(session).register(identifier="one", host="h", boot="b", pid=1, device="cpu")
    app_client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
    claim_everything(database, "one")
    (worker,) = app_client.get("/v1/workers").json()
    years = worker["jobs"][0]["seconds"] / (365.25 * 86_400)
    assert 50 < years < 200


def test_ranking_that_only_waits_for_its_models_is_no_activity(app_client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        Workers(session).register(identifier="one", host="h", boot="b", pid=1, device="cpu")
    app_client.post("/v1/datasets", json={"location": "builtin:digits"})
    app_client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
    app_client.post("/v1/rankings", json={"target": "digits", "models": ["resnet18.a1_in1k"], "metrics": ["leep"]})
    claim_everything(database, "one")
    (worker,) = app_client.get("/v1/workers").json()
    assert sorted(job["activity"] for job in worker["jobs"]) == ["inspecting a data set", "inspecting a model"]
