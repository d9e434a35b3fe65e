"""Rankings begin by class, and within a class the oldest first."""

from collections.abc import Iterator

import pytest
from dbos import DBOSClient
from dbos._sys_db import SystemDatabase
from starlette.testclient import TestClient

from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.jobs import APPLICATION, APPLICATION_VERSION, JSON, SOONEST, Queue, engine_url, ranking_priority
from app.settings import Settings
from tests.conftest import NewDatabase

LARGEST_PRIORITY = 2**31 - 1


@pytest.fixture
def engine(settings: Settings) -> Iterator[DBOSClient]:
    client = DBOSClient(system_database_url=engine_url(settings), serializer=JSON, application_name=APPLICATION)
    yield client
    client.destroy()


def taken_in_order(engine: DBOSClient, name: Queue) -> list[str]:
    """The jobs of a queue as a worker that does one at a time takes them."""
    queue = engine.register_queue(name.value, worker_concurrency=1)
    system: SystemDatabase = engine._sys_db
    taken: list[str] = []
    while jobs := system.start_queued_workflows(queue, "worker", APPLICATION_VERSION, None, 0, owner_xid="x")[0]:
        taken += jobs
    return taken


def submit(client: TestClient, priority: str) -> str:
    body = {"target": "digits", "models": ["resnet18.a1_in1k"], "metrics": ["leep"], "priority": priority}
    answer = client.post("/v1/rankings", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_rankings_begin_by_class_and_the_oldest_first(app_client: TestClient, engine: DBOSClient) -> None:
    app_client.post("/v1/datasets", json={"location": "builtin:digits"})
    app_client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
    submitted = [
        (name, submit(app_client, name)) for name in ("low", "normal", "normal", "high", "normal", "low", "high")
    ]
    expected = [job for wanted in ("high", "normal", "low") for name, job in submitted if name == wanted]
    assert taken_in_order(engine, Queue.RANKINGS) == expected


def test_priorities_fit_the_engine_and_no_class_reaches_into_the_next() -> None:
    last = 2**29 - 1
    assert ranking_priority("high", 0) > SOONEST
    assert ranking_priority("high", last) < ranking_priority("normal", 0)
    assert ranking_priority("normal", last) < ranking_priority("low", 0)
    assert ranking_priority("low", last) == LARGEST_PRIORITY
    assert ranking_priority("low", last + 1) == ranking_priority("low", 0)


def test_no_submission_waits_for_one_that_has_not_committed(new_postgresql: NewDatabase) -> None:
    database = Database(new_postgresql(), limit_seconds=5)
    with database.transaction() as first, database.transaction() as second:
        numbers = [Rankings(session).next_submission() for session in (first, second, first)]
    assert numbers == sorted(set(numbers))
    database.close()


def test_numbers_go_on_where_they_were(database: Database) -> None:
    found = []
    for _ in range(3):
        with database.transaction() as session:
            found.append(Rankings(session).next_submission())
    assert found == [found[0], found[0] + 1, found[0] + 2]
