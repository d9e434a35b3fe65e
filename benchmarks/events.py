"""Reads beside many streams of events: `python -m benchmarks.events [streams] [readers] [seconds] [database URL]`.

Starts an API without a worker over 20 rankings, in one of which an event happens every 100 ms. Prints the latency of
`GET /v1/rankings/{id}` to the readers, first without streams and then beside them, and how late events arrived.
"""

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import httpx2

from app import jobs
from app.contracts.events import ModelEvent
from app.contracts.question import SampleChoice
from app.contracts.rankings import RankingRequest
from app.contracts.states import ResourceState
from app.db.migrate import upgrade
from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.db.tables import Dataset, Ranking, new_id, now
from app.settings import Settings

PORT = 8765
RANKINGS = 20


def prepare(settings: Settings) -> tuple[Database, list[str]]:
    database = Database(settings.url)
    upgrade(database)
    jobs.upgrade(settings)
    with database.transaction() as session:
        dataset = Dataset(name=new_id("d"), spec={"kind": "builtin", "name": "digits"}, state=ResourceState.READY)
        session.add(dataset)
        session.flush()
        request = RankingRequest(
            target=dataset.name,
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
        rows = [Ranking(target_id=dataset.id, request=request, priority=100) for _ in range(RANKINGS)]
        session.add_all(rows)
        session.flush()
        return database, [row.id for row in rows]


async def stream(ranking: str, delays: list[float], opened: asyncio.Semaphore) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(f"GET /v1/rankings/{ranking}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    status = await reader.readline()
    assert b" 200 " in status, status
    opened.release()
    began = now()
    try:
        while line := await reader.readline():
            if line.startswith(b"data: "):
                happened = datetime.fromisoformat(json.loads(line.removeprefix(b"data: "))["at"])
                # What happened before is told at once, and is not late.
                if happened > began:
                    delays.append((now() - happened).total_seconds())
    finally:
        writer.close()


async def follow(rankings: list[str], count: int, parent: Connection) -> None:
    """Open streams, tell the seconds that it took, and at the end how late the events were."""
    delays: list[float] = []
    opened = asyncio.Semaphore(0)
    began = time.monotonic()
    followers = [
        asyncio.create_task(stream(rankings[number % len(rankings)], delays, opened)) for number in range(count)
    ]
    for _ in followers:
        await opened.acquire()
    parent.send(time.monotonic() - began)
    await asyncio.to_thread(parent.recv)
    for follower in followers:
        follower.cancel()
    await asyncio.gather(*followers, return_exceptions=True)
    parent.send(delays)


def follow_here(rankings: list[str], count: int, parent: Connection) -> None:
    """In a process of its own, so that what it does delays no reader."""
    without_full_collections()
    asyncio.run(follow(rankings, count, parent))


def without_full_collections() -> None:
    """As the server does: collections among the imports of a client are no latency of the API."""
    gc.collect()
    gc.freeze()


async def read(rankings: list[str], until: float, latencies: list[float]) -> None:
    """One client with one connection; a library for HTTP would take as long as the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    number = 0
    while time.monotonic() < until:
        began = time.perf_counter()
        path = f"/v1/rankings/{rankings[number % len(rankings)]}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
        latencies.append(time.perf_counter() - began)
        assert " 200 " in head.partition("\r\n")[0], head
        number += 1
        await asyncio.sleep(0.1)
    writer.close()


async def happen(database: Database, rankings: list[str], until: float) -> None:
    def record(ranking: str) -> None:
        with database.transaction() as session:
            event = ModelEvent(ranking_id=ranking, model_id="m", state="extracting", stage="forward", done=1, total=1)
            Rankings(session).record_event(event)

    number = 0
    while time.monotonic() < until:
        await asyncio.to_thread(record, rankings[number % len(rankings)])
        number += 1
        await asyncio.sleep(0.1)


async def read_for(seconds: float, database: Database, rankings: list[str], readers: int) -> list[float]:
    """Seconds that each read took, the quickest first, while events happen."""
    latencies: list[float] = []
    until = time.monotonic() + seconds
    await asyncio.gather(happen(database, rankings, until), *(read(rankings, until, latencies) for _ in range(readers)))
    return sorted(latencies)


def at(share: float, latencies: list[float]) -> float:
    """Milliseconds within which this share of the reads was answered."""
    return latencies[int(len(latencies) * share)] * 1000


def show(name: str, latencies: list[float]) -> None:
    shares = "  ".join(f"p{share * 100:g} {at(share, latencies):4.0f} ms" for share in (0.5, 0.99, 0.999))
    print(f"{name:<20}  {len(latencies):5} reads  {shares}")


async def measure(database: Database, rankings: list[str], streams: int, readers: int, seconds: float) -> None:
    print(f"{readers} readers, each 100 ms after its last answer, for {seconds:g} s")
    await read_for(1, database, rankings, readers)  # the first requests load what the others find
    alone = await read_for(seconds, database, rankings, readers)
    show("without streams", alone)
    here, there = get_context("spawn").Pipe()
    followers = get_context("spawn").Process(target=follow_here, args=(rankings, streams, there))
    followers.start()
    opening = await asyncio.to_thread(here.recv)
    beside = await read_for(seconds, database, rankings, readers)
    show(f"beside {streams} streams", beside)
    here.send("enough")
    delays = await asyncio.to_thread(here.recv)
    followers.join()
    print(f"p99 is {at(0.99, beside) / at(0.99, alone):.1f} times that without streams")
    print(f"the streams opened in {opening:.2f} s", end="")
    print(f"; {len(delays)} events received, half within {statistics.median(delays) * 1000:.0f} ms" if delays else "")


def main() -> None:
    given = sys.argv[1:]
    streams, readers = (int(given[i]) if len(given) > i else default for i, default in ((0, 500), (1, 16)))
    seconds = float(given[2]) if len(given) > 2 else 15
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), port=PORT, **({"database_url": given[3]} if len(given) > 3 else {}))
        database, rankings = prepare(settings)
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--no-worker"],
            env=os.environ | settings.environment() | {"FORERANK_LOG_LEVEL": "warning"},
        )
        try:
            while True:
                try:
                    httpx2.get(f"http://127.0.0.1:{PORT}/livez", timeout=5)
                    break
                except httpx2.HTTPError:
                    assert process.poll() is None
                    time.sleep(0.1)
            without_full_collections()
            asyncio.run(measure(database, rankings, streams, readers, seconds))
        finally:
            process.terminate()
            process.wait()
            database.close()


if __name__ == "__main__":
    main()
