"""Streams of events: in order, without gaps, from any API process, resumed where they broke off."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.db.tables import Dataset, Ranking, RankingState, ResourceState, new_id
from app.settings import Settings
from tests.app.test_frame import problem
from tests.conftest import NewDatabase, local_client, running_api


@dataclass(frozen=True)
class Deployment:
    """Two API processes on one database."""

    settings: Settings
    database: Database
    addresses: list[str]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One for all tests here, each with a ranking of its own."""
    make: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        database_url=make(),
        events_polling_seconds=0.1,
        events_heartbeat_seconds=0.3,
    )
    with ExitStack() as stack:
        database = Database(settings.url)
        stack.callback(database.close)
        yield Deployment(settings, database, [stack.enter_context(running_api(settings)) for _ in range(2)])


@pytest.fixture
def database(deployment: Deployment) -> Database:
    """That of the deployment."""
    return deployment.database


@pytest.fixture
def ranking(database: Database) -> str:
    """A ranking that waits."""
    with database.transaction() as session:
        dataset = Dataset(name=new_id("d"), spec={"kind": "builtin", "name": "digits"}, state=ResourceState.READY)
        session.add(dataset)
        session.flush()
        row = Ranking(target_id=dataset.id, request={"target": "d"}, priority=100)
        session.add(row)
        session.flush()
        return row.id


@pytest.fixture
def local(deployment: Deployment) -> Iterator[TestClient]:
    """A client of an application in this process."""
    with local_client(deployment.settings) as client:
        yield client


def record(database: Database, ranking: str, number: int) -> None:
    with database.transaction() as session:
        Rankings(session).record_event(ranking, "model", {"done": number})


def end(database: Database, ranking: str) -> None:
    with database.transaction() as session:
        Rankings(session).move(ranking, RankingState.SUCCEEDED)


@dataclass
class Event:
    id: int
    type: str
    data: dict[str, Any]


def parse(lines: Iterator[str]) -> Iterator[Event]:
    """The events of a stream, without its comments."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "data" in fields:
                yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


def follow(address: str, ranking: str, *, after: int | None = None, most: int | None = None) -> list[Event]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    found: list[Event] = []
    with httpx2.stream("GET", f"{address}/v1/rankings/{ranking}/events", headers=headers, timeout=30) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        for event in parse(response.iter_lines()):
            found.append(event)
            if most is not None and len(found) == most:
                break
    return found


def test_followers_of_two_processes_see_the_same_in_order(deployment: Deployment, ranking: str) -> None:
    database = deployment.database
    seen: list[list[Event]] = []
    threads = [
        threading.Thread(target=lambda address=address: seen.append(follow(address, ranking)))
        for address in deployment.addresses * 2
    ]
    for thread in threads:
        thread.start()
    for number in range(20):
        record(database, ranking, number)
        time.sleep(0.01)
    end(database, ranking)
    for thread in threads:
        thread.join(timeout=30)
    assert len(seen) == 4
    assert all(events == seen[0] for events in seen)
    assert [event.id for event in seen[0]] == list(range(1, 22))
    assert [event.type for event in seen[0]] == ["model"] * 20 + ["end"]
    assert seen[0][-1].data["state"] == "succeeded"


def test_follower_that_comes_back_to_another_process_misses_nothing(deployment: Deployment, ranking: str) -> None:
    one, two = deployment.addresses
    for number in range(5):
        record(deployment.database, ranking, number)
    before = follow(one, ranking, most=3)
    end(deployment.database, ranking)
    after = follow(two, ranking, after=before[-1].id)
    again = follow(one, ranking, after=after[-1].id)
    assert [event.id for event in before + after] == [1, 2, 3, 4, 5, 6]
    # A client that missed only the end of the stream is told once more, and so stops asking.
    assert [(event.id, event.type) for event in again] == [(6, "end")]


def test_silence_is_broken_by_heartbeats_and_deletion_ends_the_stream(deployment: Deployment, ranking: str) -> None:
    heartbeats = 0
    with httpx2.stream("GET", f"{deployment.addresses[0]}/v1/rankings/{ranking}/events", timeout=30) as response:
        lines = response.iter_lines()
        while heartbeats < 2:
            heartbeats += next(lines).startswith(": still")
        with deployment.database.transaction() as session:
            session.delete(session.get_one(Ranking, ranking))
        (last,) = parse(lines)
    assert (last.type, last.data["state"]) == ("end", "deleted")


def test_stream_of_a_finished_ranking_ends(local: TestClient, database: Database, ranking: str) -> None:
    end(database, ranking)
    response = local.get(f"/v1/rankings/{ranking}/events")
    assert [event.type for event in parse(iter(response.text.splitlines()))] == ["end"]
    assert "retry: 2000" in response.text


def test_unknown_ranking_is_not_found_before_the_stream_begins(local: TestClient) -> None:
    problem(local.get("/v1/rankings/none/events"), 404)


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 30])
def test_malformed_last_event_id_is_refused(local: TestClient, ranking: str, given: str) -> None:
    document = problem(local.get(f"/v1/rankings/{ranking}/events", headers={"Last-Event-ID": given}), 422)
    assert document["errors"][0]["pointer"] == "/header/Last-Event-ID"


def test_streams_need_a_key_where_one_is_needed(deployment: Deployment, ranking: str) -> None:
    with local_client(deployment.settings.model_copy(update={"require_keys": True})) as client:
        problem(client.get(f"/v1/rankings/{ranking}/events"), 401)
