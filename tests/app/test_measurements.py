"""What Prometheus reads of the API."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update
from starlette.testclient import TestClient

from app.db.repositories.workers import Workers
from app.db.session import Database
from app.db.tables import Worker


def sample(text: str, name: str, **labels: str) -> float:
    """The value of the one sample of this name with these labels."""
    (value,) = (
        found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
        if found.name == name and found.labels == labels
    )
    return value


@pytest.mark.parametrize("queue", ["rankings", "inspections"])
def test_jobs_that_wait_are_counted_by_queue(app_client: TestClient, queue: str) -> None:
    before = sample(app_client.get("/metrics").text, "forerank_jobs", queue=queue, state="waiting")
    app_client.post("/v1/datasets", json={"location": "builtin:digits"})
    app_client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
    answer = app_client.post(
        "/v1/rankings", json={"target": "digits", "models": ["resnet18.a1_in1k"], "metrics": ["leep"]}
    )
    assert answer.status_code == 202, answer.text
    after = app_client.get("/metrics").text
    assert sample(after, "forerank_jobs", queue=queue, state="waiting") == before + 1
    assert sample(after, "forerank_jobs", queue=queue, state="running") == 0
    assert sample(after, "forerank_rankings", state="queued") == 1


def test_workers_are_counted_by_whether_they_were_heard_of(app_client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        for name in ("lively", "silent"):
            Workers(session).register(identifier=name, host="h", boot="b", pid=1, device="cpu")
        session.execute(update(Worker).where(Worker.id == "silent").values(heartbeat=0))
    told = app_client.get("/metrics").text
    assert [sample(told, "forerank_workers", state=state) for state in ("alive", "silent")] == [1, 1]
