"""What one client, or a database that hangs, may not do to the others: probes answer at once, waiting is bounded."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
from sqlalchemy.engine import make_url

from app.db.session import Database
from app.services import keys
from app.settings import Settings
from tests.app.test_frame import problem
from tests.app.test_scores import npz
from tests.conftest import NewDatabase, local_client, running_api

LIMIT_SECONDS = 1.0


@pytest.fixture
def postgresql_settings(new_postgresql: NewDatabase, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", database_url=new_postgresql(), database_limit_seconds=LIMIT_SECONDS)


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Another client holds the table that is read."""
    with psycopg.connect(_plain(settings)) as connection:
        connection.execute("LOCK TABLE datasets IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def stopped(settings: Settings) -> Iterator[None]:
    """The server's processes stand still, as on a host that is out of memory or whose disk hangs."""
    with psycopg.connect(_plain(settings), autocommit=True) as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        backends = [pid for (pid,) in connection.execute(query)]
    postmaster = int((Path(folder) / "postmaster.pid").read_text().splitlines()[0])
    for pid in (postmaster, *backends):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in (postmaster, *backends):
            os.kill(pid, signal.SIGCONT)


def _plain(settings: Settings) -> str:
    return make_url(settings.url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.mark.parametrize("hang", [locked, stopped])
def test_database_that_hangs_is_answered_with_503_in_bounded_time(hang: Any, postgresql_settings: Settings) -> None:
    with local_client(postgresql_settings) as client:
        assert client.get("/v1/datasets").status_code == 200
        with hang(postgresql_settings):
            began = time.monotonic()
            response = client.get("/v1/datasets")
            assert time.monotonic() - began < 2 * LIMIT_SECONDS + 16
            assert "database" in problem(response, 503)["detail"]
            assert int(response.headers["retry-after"]) > 0
        assert client.get("/v1/datasets").status_code == 200


def test_readiness_is_refused_in_bounded_time_while_the_database_hangs(postgresql_settings: Settings) -> None:
    with local_client(postgresql_settings) as client:
        assert pointers_of(client.get("/readyz")) == {"/workers"}
        with stopped(postgresql_settings):
            began = time.monotonic()
            assert pointers_of(client.get("/readyz")) == {"/database"}
            assert time.monotonic() - began < 2 * LIMIT_SECONDS + 16
        assert pointers_of(client.get("/readyz")) == {"/workers"}


def pointers_of(response: httpx2.Response) -> set[str]:
    return {error["pointer"] for error in problem(response, 503)["errors"]}


def test_a_cancellation_waits_in_bounded_time_for_an_engine_that_hangs(postgresql_settings: Settings) -> None:
    with local_client(postgresql_settings) as client:
        client.post("/v1/datasets", json={"location": "builtin:digits"})
        client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
        body = {"target": "digits", "models": ["resnet18.a1_in1k"], "metrics": ["leep"]}
        ranking = client.post("/v1/rankings", json=body).json()["id"]
        with psycopg.connect(_plain(postgresql_settings)) as connection:
            connection.execute("LOCK TABLE dbos.workflow_status IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            assert client.post(f"/v1/rankings/{ranking}/cancel").json()["state"] == "cancelled"
            assert time.monotonic() - began < 2 * LIMIT_SECONDS + 16


def test_probe_answers_at_once_while_reads_hang(postgresql_settings: Settings) -> None:
    async def probe(address: str) -> list[float]:
        async with httpx2.AsyncClient(base_url=address, timeout=60) as http:
            assert (await http.get("/v1/datasets")).status_code == 200
            with locked(postgresql_settings):
                reads = [asyncio.ensure_future(http.get("/v1/datasets")) for _ in range(60)]
                await asyncio.sleep(0.2)
                taken = await _probe_times(http, 20)
                statuses = {(await read).status_code for read in reads}
            assert statuses == {503}
            return taken

    with running_api(postgresql_settings) as address:
        # A hiccup of the machine holds up one probe or two; reads that hang would hold up all.
        assert sorted(asyncio.run(probe(address)))[-3] < 0.5


async def _probe_times(http: httpx2.AsyncClient, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.monotonic()
        assert (await http.get("/livez")).status_code == 200
        taken.append(time.monotonic() - began)
        await asyncio.sleep(0.02)
    return taken


def test_one_key_with_many_slow_scores_leaves_probes_and_other_keys_alone(
    new_sqlite: NewDatabase, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path / "home",
        database_url=new_sqlite(),
        require_keys=True,
        scores_limit_seconds=3,
        scores_waiting_limit=40,
        threads=1,
    )
    database = Database(settings.url)
    with database.transaction() as session:
        greedy, modest = (keys.create(session, name=name, scopes=["submit"])[1] for name in ("greedy", "modest"))
    database.close()
    random = np.random.default_rng(0)
    slow = npz(features=random.normal(size=(5000, 64)).astype(np.float32), labels=np.arange(5000) % 2)
    quick = npz(features=random.normal(size=(60, 5)), labels=np.arange(60) % 3)

    def score(http: httpx2.AsyncClient, key: str, evidence: bytes, *metrics: str) -> "asyncio.Future[httpx2.Response]":
        return asyncio.ensure_future(
            http.post(
                "/v1/scores",
                headers={"X-API-Key": key},
                files={"evidence": ("evidence", evidence)},
                data={"metrics": json.dumps(metrics)},
            )
        )

    async def crowd(address: str) -> None:
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(base_url=address, timeout=120, limits=limits) as http:
            assert (await score(http, modest, quick, "logme")).status_code == 200
            many = [score(http, greedy, slow, "nleep") for _ in range(60)]
            while sum(task.done() for task in many) < 60 - 41:
                await asyncio.sleep(0.05)
            turned_away = [task.result() for task in many if task.done()]
            assert {response.status_code for response in turned_away} <= {503, 413}
            assert any(int(response.headers.get("retry-after", 0)) for response in turned_away)
            taken = await _probe_times(http, 100)
            assert sorted(taken)[98] < 0.5
            began = time.monotonic()
            assert (await score(http, modest, quick, "logme")).status_code == 200
            # It waits for the one that is being computed, and for the start of a process that replaces a killed one.
            assert time.monotonic() - began < 15
            assert sum(not task.done() for task in many) > 20
            for task in many:
                task.cancel()
            await asyncio.gather(*many, return_exceptions=True)
        async with httpx2.AsyncClient(base_url=address, timeout=120) as http:
            began = time.monotonic()
            assert (await score(http, greedy, quick, "logme")).status_code == 200
            assert time.monotonic() - began < 15

    with running_api(settings) as address:
        asyncio.run(crowd(address))
