"""Streams of events: in order, without gaps, from any API process, resumed where they broke off."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from app.contracts.events import EVENTS, ModelEvent
from app.contracts.models import TimmSpec
from app.contracts.question import SampleChoice
from app.contracts.rankings import RankingRequest
from app.contracts.states import ModelRunState, RankingState, ResourceState
from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.db.tables import Dataset, Model, Ranking, RankingModel, new_id
from app.services import events, keys
from app.settings import Settings
from tests.app.test_frame import problem
from tests.app.test_keys import make_key
from tests.conftest import NewDatabase, local_client, running_api

STREAMS = 120
READS = 15


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
        events_stream_limit=STREAMS,
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
    """A ranking that runs."""
    return add_ranking(database)


@pytest.fixture
def local(deployment: Deployment) -> Iterator[TestClient]:
    """A client of an application in this process."""
    with local_client(deployment.settings) as client:
        yield client


def record(database: Database, ranking: str, number: int) -> None:
    with database.transaction() as session:
        event = ModelEvent(
            ranking_id=ranking, model_id="m", state="extracting", stage="forward", done=number, total=100
        )
        Rankings(session).record_event(event)


def end(database: Database, ranking: str) -> None:
    with database.transaction() as session:
        assert Rankings(session).move(ranking, RankingState.SUCCEEDED)


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
    assert all(received == seen[0] for received in seen)
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


def test_events_are_what_their_models_say(local: TestClient, database: Database, ranking: str) -> None:
    model = new_id("mdl")
    with database.transaction() as session:
        session.add(Model(id=model, name=model, spec=TimmSpec(name="resnet18"), state=ResourceState.READY))
        session.flush()
        session.add(RankingModel(ranking_id=ranking, model_id=model, position=0))
        session.flush()
        rankings = Rankings(session)
        rankings.move(ranking, RankingState.RUNNING)
        for state in (ModelRunState.EXTRACTING, ModelRunState.SCORING, ModelRunState.SUCCEEDED):
            assert rankings.update_run(ranking, model, state=state, stage="s", done=1, total=2)
        assert rankings.move(ranking, RankingState.SUCCEEDED)
    streams = [
        local.get(f"/v1/rankings/{ranking}/events", headers={"Last-Event-ID": last}).text.splitlines()
        for last in ("0", "5")
    ]
    read = [EVENTS[event.type].model_validate(event.data) for lines in streams for event in parse(iter(lines))]
    assert [(event.type, event.state) for event in read] == [
        ("state", "running"),
        ("model", "extracting"),
        ("model", "scoring"),
        ("model", "succeeded"),
        ("end", "succeeded"),
        ("end", "succeeded"),
    ]
    assert {event.ranking_id for event in read} == {ranking}
    assert [event.at is None for event in read] == [False] * 5 + [True]


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


async def _open_stream(address: str, ranking: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = f"/v1/rankings/{ranking}/events"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    return reader, writer


def test_many_streams_leave_the_other_routes_alone(deployment: Deployment, ranking: str) -> None:
    """As many as may be open; one more is refused; reads answer meanwhile; every stream gets the next event."""
    address = deployment.addresses[0]

    async def read(client: httpx2.AsyncClient) -> list[float]:
        seconds = []
        for _ in range(READS):
            began = time.perf_counter()
            assert (await client.get(f"/v1/rankings/{ranking}/results")).status_code == 200
            seconds.append(time.perf_counter() - began)
        return seconds

    async def drill() -> None:
        streams = await asyncio.gather(*(_open_stream(address, ranking) for _ in range(STREAMS)))
        for reader, _ in streams:
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 20)
        async with httpx2.AsyncClient(base_url=address, timeout=20) as client:
            refused = await client.get(f"/v1/rankings/{ranking}/events")
            problem(refused, 503)
            assert int(refused.headers["retry-after"]) > 0
            taken = sorted(chain.from_iterable(await asyncio.gather(*(read(client) for _ in range(8)))))
            assert taken[int(len(taken) * 0.95)] < 2
        await asyncio.to_thread(end, deployment.database, ranking)
        for reader, writer in streams:
            received = await asyncio.wait_for(reader.read(), 20)
            assert received.count(b"event: end") == 1
            writer.close()

    asyncio.run(drill())
    # The places are free again.
    assert [event.type for event in follow(address, ranking)] == ["end"]


def test_stream_of_a_revoked_key_ends(deployment: Deployment, ranking: str) -> None:
    guarded = deployment.settings.model_copy(update={"require_keys": True})
    secret = make_key(deployment.database, "admin", name=new_id("k"))
    with running_api(guarded) as address:
        url = f"{address}/v1/rankings/{ranking}/events"
        with httpx2.stream("GET", url, headers={"X-API-Key": secret}, timeout=20) as response:
            lines = response.iter_lines()
            assert next(lines).startswith(":")
            with deployment.database.transaction() as session:
                keys.revoke(session, secret[: keys.SHOWN_CHARACTERS])
            revoked = time.monotonic()
            assert not any(line.startswith("event") for line in lines)
        assert time.monotonic() - revoked < 5
        problem(httpx2.get(url, headers={"X-API-Key": secret}), 401)


def add_ranking(database: Database) -> str:
    with database.transaction() as session:
        dataset = Dataset(name=new_id("d"), spec={"kind": "builtin", "name": "digits"}, state=ResourceState.READY)
        session.add(dataset)
        session.flush()
        request = RankingRequest(
            target="d",
            zoo=None,
            metrics=(),
            sample=SampleChoice(),
            priority="normal",
            layers=(),
            reference=None,
            sources={},
            intervals=None,
            ensembles=(),
            given_ensembles=(),
        )
        row = Ranking(target_id=dataset.id, request=request, priority=100, state=RankingState.RUNNING)
        session.add(row)
        session.flush()
        return row.id


def test_one_look_finds_what_is_new_in_each_ranking(database: Database) -> None:
    busy, quiet, over, gone = (add_ranking(database) for _ in range(4))
    for number in range(3):
        record(database, busy, number)
    record(database, quiet, 0)
    end(database, over)
    with database.transaction() as session:
        session.delete(session.get_one(Ranking, gone))
    found = events.news(database, {busy: 1, quiet: 1, over: 1, gone: 0}, ["local"])
    assert {ranking: [each.sequence for each in new] for ranking, new in found.happenings.items()} == {busy: [2, 3]}
    assert found.ended == {over: "succeeded", gone: "deleted"}
    assert not found.more


def test_look_at_many_rankings_is_cut_into_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE", 7)
    rankings = [add_ranking(database) for _ in range(3)]
    for ranking in rankings:
        for number in range(5):
            record(database, ranking, number)
    positions = dict.fromkeys(rankings, 0)
    looks = 0
    while True:
        found = events.news(database, positions, [])
        looks += 1
        for ranking, new in found.happenings.items():
            assert [each.sequence for each in new] == list(range(positions[ranking] + 1, new[-1].sequence + 1))
            positions[ranking] = new[-1].sequence
        if not found.more:
            break
    assert positions == dict.fromkeys(rankings, 5)
    assert looks == 3
