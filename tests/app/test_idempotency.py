"""Retries: one effect, one answer, however many clients, processes and crashes."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app.db.repositories.idempotency import IdempotentRequests
from app.db.session import Database
from app.db.tables import Dataset, IdempotentRequest
from app.errors import Conflict, Invalid
from app.services.retries import Retries, StoredAnswer
from app.settings import Settings
from tests.app.test_frame import problem
from tests.app.test_keys import make_key
from tests.conftest import local_client, running_api

BODY = {"location": "builtin:digits", "name": "once"}
ANSWER = StoredAnswer(202, {"location": "/v1/x"}, b"{}")


def count(database: Database, table: Any) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_retry_gets_the_first_answer(app_client: TestClient, database: Database) -> None:
    first = app_client.post("/v1/datasets", json=BODY, headers={"Idempotency-Key": "a"})
    again = app_client.post("/v1/datasets", json=BODY, headers={"Idempotency-Key": "a"})
    assert first.status_code == again.status_code == 202
    assert first.content == again.content
    for name in ("location", "retry-after", "content-type"):
        assert first.headers[name] == again.headers[name]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert count(database, Dataset) == 1


def test_first_answer_outlives_what_it_made(app_client: TestClient) -> None:
    first = app_client.post("/v1/datasets", json=BODY, headers={"Idempotency-Key": "a"})
    app_client.delete(first.headers["location"])
    again = app_client.post("/v1/datasets", json=BODY, headers={"Idempotency-Key": "a"})
    assert again.content == first.content


def test_key_belongs_to_one_request(app_client: TestClient) -> None:
    app_client.post("/v1/datasets", json=BODY, headers={"Idempotency-Key": "a"})
    other_body = app_client.post("/v1/datasets", json=BODY | {"name": "b"}, headers={"Idempotency-Key": "a"})
    other_route = app_client.post("/v1/models", json=BODY, headers={"Idempotency-Key": "a"})
    for response in (other_body, other_route):
        assert problem(response, 422)["errors"][0]["pointer"] == "/header/Idempotency-Key"


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_malformed_key_is_refused(app_client: TestClient, key: str) -> None:
    problem(app_client.post("/v1/datasets", json=BODY, headers={"Idempotency-Key": key}), 422)


def test_request_that_failed_frees_its_key(app_client: TestClient, database: Database) -> None:
    headers = {"Idempotency-Key": "a"}
    problem(app_client.post("/v1/datasets", json={"location": "builtin:nothing"}, headers=headers), 422)
    assert count(database, IdempotentRequest) == 0
    assert app_client.post("/v1/datasets", json=BODY, headers=headers).status_code == 202


def test_reads_ignore_the_key(app_client: TestClient, database: Database) -> None:
    assert app_client.get("/v1/datasets", headers={"Idempotency-Key": "a"}).status_code == 200
    assert count(database, IdempotentRequest) == 0


def test_keys_of_two_callers_are_apart(settings: Settings, database: Database) -> None:
    with local_client(settings.model_copy(update={"require_keys": True})) as client:
        locations = {
            client.post(
                "/v1/datasets",
                json=BODY,
                headers={"Idempotency-Key": "a", "X-API-Key": make_key(database, "submit", name=name)},
            ).headers["location"]
            for name in ("one", "two")
        }
    assert len(locations) == 2


def test_second_while_the_first_is_in_flight_conflicts(settings: Settings, database: Database) -> None:
    retries = Retries(settings, database)
    first, second = (retries.attempt(owner="o", key="k") for _ in range(2))
    assert first.begin("d") is None
    with pytest.raises(Conflict, match="still being answered"):
        second.begin("d")
    with pytest.raises(Invalid):
        second.begin("other")
    first.complete(None, ANSWER)
    assert second.begin("d") == ANSWER


def test_dead_request_blocks_its_key_for_the_stated_time(settings: Settings, database: Database) -> None:
    retries = Retries(settings.model_copy(update={"idempotency_in_flight_seconds": 0.2}), database)
    dead, heir = (retries.attempt(owner="o", key="k") for _ in range(2))
    dead.begin("d")
    with pytest.raises(Conflict):
        heir.begin("d")
    time.sleep(0.3)
    assert heir.begin("d") is None


def test_request_whose_key_was_taken_over_has_no_effect(settings: Settings, database: Database) -> None:
    retries = Retries(settings.model_copy(update={"idempotency_in_flight_seconds": 0.05}), database)
    slow, heir = (retries.attempt(owner="o", key="k") for _ in range(2))
    slow.begin("d")
    time.sleep(0.1)
    heir.begin("d")

    def have_effect() -> None:
        with database.transaction() as session:
            session.add(Dataset(name="x", spec={"kind": "builtin", "name": "digits"}))
            session.flush()
            slow.complete(session, ANSWER)

    with pytest.raises(Conflict):
        have_effect()
    slow.release()
    assert count(database, Dataset) == 0
    heir.complete(None, ANSWER)


def test_answer_is_kept_only_with_its_effect(settings: Settings, database: Database) -> None:
    attempt = Retries(settings, database).attempt(owner="o", key="k")
    attempt.begin("d")

    def die_before_commit() -> None:
        with database.transaction() as session:
            attempt.complete(session, ANSWER)
            raise RuntimeError("the server dies")

    with pytest.raises(RuntimeError):
        die_before_commit()
    with database.reading() as session:
        row = IdempotentRequests(session).find(owner="o", key="k")
    assert row is not None
    assert row.status is None


def test_old_answers_are_removed(settings: Settings, database: Database) -> None:
    retries = Retries(settings.model_copy(update={"idempotency_hours": 0.1 / 3600}), database)
    attempt = retries.attempt(owner="o", key="k")
    attempt.begin("d")
    attempt.complete(None, ANSWER)
    time.sleep(0.15)
    Retries(settings.model_copy(update={"idempotency_hours": 0.1 / 3600}), database).purge_sometimes()
    assert count(database, IdempotentRequest) == 0


def test_sixteen_clients_of_two_processes_make_each_thing_once(settings: Settings, database: Database) -> None:
    submissions = 6

    def submit(client: int) -> list[tuple[str, str]]:
        made = []
        with httpx2.Client(base_url=addresses[client % 2], timeout=60) as http:
            for number in range(submissions):
                for _ in range(200):
                    response = http.post(
                        "/v1/datasets",
                        json={"location": "builtin:digits", "name": f"d{number}"},
                        headers={"Idempotency-Key": f"k{number}"},
                    )
                    if response.status_code != 409:
                        break
                    time.sleep(0.02)
                assert response.status_code == 202, response.text
                made.append((response.headers["location"], response.text))
        return made

    with running_api(settings) as one, running_api(settings) as two:
        addresses = [one, two]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(submit, range(16)))
    assert all(answer == answers[0] for answer in answers)
    assert count(database, Dataset) == submissions
