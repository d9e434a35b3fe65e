"""A schedule over HTTP: fired by the clock with two workers, once; reported; told to a webhook; also after kill -9."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.db.session import Database
from app.settings import Settings
from app.webhooks import signature
from tests.receiver import Receiver, receiving
from tests.service import FAST, Service, draw_images, environment, running, save_model, wait_for


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    (tmp_path / "weights").mkdir()
    draw_images(tmp_path / "images" / "shapes")
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        data_roots=(tmp_path / "images",),
        model_roots=(tmp_path / "weights",),
        schedule_polling_seconds=0.2,
        webhook_private_addresses=True,
        **FAST,
    )


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path) as process:
        yield process


@contextmanager
def another_worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "workers"],
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def register(service: Service, name: str, *, seed: int, architecture: str = "test_resnet") -> None:
    body = save_model(service.settings.model_roots[0], name, architecture, num_classes=7, seed=seed)
    service.call("POST", "/v1/models", body)
    assert service.until_ready(f"/v1/models/{name}", seconds=180)["state"] == "ready"


def once_soon() -> str:
    """A cron expression, in UTC, that is due shortly and then for a year no more.

    The moment must still be ahead when a busy server reads it, or else the schedule waits for next year's.
    """
    due = datetime.now(UTC) + timedelta(seconds=8)
    return f"{due.second} {due.minute} {due.hour} {due.day} {due.month} *"


def schedule(service: Service, cron: str, **more: Any) -> dict[str, Any]:
    body = {
        "name": "nightly",
        "cron": cron,
        "zoo": "zoo",
        "targets": ["shapes"],
        "metrics": ["leep", "h_score"],
        "intervals": None,
        **more,
    }
    created: dict[str, Any] = service.call("POST", "/v1/schedules", body, status=201)
    return created


def runs(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.call("GET", "/v1/schedules/nightly/runs")["items"]
    return found


def until_run(service: Service, number: int = 1, *, seconds: float = 180) -> dict[str, Any]:
    """The newest run, once so many have ended."""

    def ended() -> dict[str, Any] | None:
        found = [run for run in runs(service) if run["state"] not in ("queued", "running")]
        return found[0] if len(found) >= number else None

    found: dict[str, Any] = wait_for(ended, seconds=seconds, what=f"the end of run {number}")
    return found


def report(service: Service, run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service.call("GET", f"/v1/schedules/nightly/runs/{run['id']}/report")
    return found


def workers(settings: Settings) -> int:
    database = Database(settings.url)
    with database.reading() as session:
        number = session.execute(text("SELECT count(*) FROM workers")).scalar_one()
    database.close()
    return int(number)


def executor_of_the_firing(settings: Settings) -> int | None:
    """The process of the worker that carries out the run."""
    database = Database(settings.url)
    schema = "" if database.is_sqlite else "dbos."
    with database.reading() as session:
        pid = session.execute(
            text(
                f"SELECT w.pid FROM {schema}workflow_status AS s JOIN workers AS w ON w.id = s.executor_id "
                "WHERE s.name = 'fire_schedule' AND s.status = 'PENDING'"
            )
        ).scalar()
    database.close()
    return pid


def test_fires_once_by_the_clock_and_computes_only_what_is_new(settings: Settings, receiver: Receiver) -> None:
    with running(settings) as service, another_worker(settings):
        service.call("POST", "/v1/datasets", {"location": str(settings.data_roots[0] / "shapes")})
        service.until_ready("/v1/datasets/shapes")
        for seed, name in enumerate(["first", "second"]):
            register(service, name, seed=seed)
        service.call("POST", "/v1/zoos", {"name": "zoo", "query": {"min_parameters": 1}}, status=201)
        hook = service.call("POST", "/v1/webhooks", {"name": "hook", "url": f"{receiver.url}/ok"}, status=201)
        wait_for(lambda: workers(settings) == 2, what="two workers")

        created = schedule(service, once_soon(), webhook="hook")
        run = until_run(service)
        assert (run["state"], run["by_hand"], run["scheduled_at"]) == ("succeeded", False, created["next_run_at"])
        first = report(service, run)
        assert sorted(first["targets"][0]["computed"]) == ["first", "second"]
        assert first["targets"][0]["best"] is not None
        wait_for(lambda: receiver.requests("/ok"), what="the message")
        message = receiver.requests("/ok")[0]
        signature.verify(
            headers=message["headers"],
            body=message["body"].encode(),
            secret=hook["secret"],
            present=datetime.now(UTC).timestamp(),
        )
        assert f'"run_id":"{run["id"]}"' in message["body"]

        register(service, "third", seed=9)
        service.call("POST", "/v1/schedules/nightly/runs")
        second = report(service, until_run(service, 2))
        assert second["targets"][0]["computed"] == ["third"]
        assert second["targets"][0]["reused"] == 2
        assert [place["model"] for place in second["targets"][0]["entered"]] == ["third"]

        service.call("POST", "/v1/schedules/nightly/runs")
        third = report(service, until_run(service, 3))
        assert (third["computed"], third["reused"]) == (0, 3)
        counters = third["targets"][0]["counters"]
        assert (counters["images_decoded"], counters["models_loaded"], counters["scores_computed"]) == (0, 0, 0)
        assert (third["targets"][0]["entered"], third["targets"][0]["moved"]) == ([], [])

        save_model(settings.model_roots[0], "second", "test_resnet", num_classes=7, seed=5)
        service.call("POST", "/v1/schedules/nightly/runs")
        fourth = report(service, until_run(service, 4))
        assert fourth["changed_models"] == {"second": "inspected again"}
        assert (fourth["targets"][0]["computed"], fourth["reused"]) == (["second"], 2)

        board = service.call("GET", "/v1/leaderboards/shapes")
        assert (board["rows"][0]["rank"], len(board["rows"]), board["ranking_count"]) == (1, 3, 4)
        history = service.call("GET", "/v1/leaderboards/shapes/history/third")
        assert [point["model_count"] for point in history["points"]] == [3, 3, 3]
        # Nothing has fired a second time meanwhile.
        assert [item["by_hand"] for item in runs(service)] == [True, True, True, False]


def test_run_that_was_due_while_no_worker_lived_is_caught_up_with_once(settings: Settings) -> None:
    with running(settings, "--no-worker") as service:
        service.call("POST", "/v1/datasets", {"location": str(settings.data_roots[0] / "shapes")})
        service.call("POST", "/v1/models", save_model(settings.model_roots[0], "first", "test_resnet", num_classes=7))
        service.call("POST", "/v1/zoos", {"name": "zoo", "models": ["first"]}, status=201)
        created = schedule(service, once_soon())
        due = datetime.fromisoformat(created["next_run_at"])
        wait_for(lambda: datetime.now(UTC) > due + timedelta(seconds=1), what="the moment to pass")
        assert runs(service) == []
        with another_worker(settings), another_worker(settings):
            run = until_run(service)
            assert (run["state"], run["by_hand"], run["scheduled_at"]) == (
                "succeeded",
                False,
                created["next_run_at"],
            )
            assert len(runs(service)) == 1


def test_killed_while_it_fires_the_run_still_happens_once(settings: Settings, receiver: Receiver) -> None:
    with running(settings) as service, another_worker(settings):
        service.call("POST", "/v1/datasets", {"location": str(settings.data_roots[0] / "shapes")})
        service.until_ready("/v1/datasets/shapes")
        register(service, "slow", seed=0, architecture="resnet34")
        service.call("POST", "/v1/zoos", {"name": "zoo", "models": ["slow"]}, status=201)
        service.call("POST", "/v1/webhooks", {"name": "hook", "url": f"{receiver.url}/ok"}, status=201)
        wait_for(lambda: workers(settings) == 2, what="two workers")
        schedule(service, once_soon(), webhook="hook")
        victim = wait_for(lambda: executor_of_the_firing(settings), seconds=30, what="the firing")
        os.kill(victim, signal.SIGKILL)
        run = until_run(service)
        assert (run["state"], len(runs(service))) == ("succeeded", 1)
        assert len(service.call("GET", "/v1/rankings")["items"]) == 1
        wait_for(lambda: receiver.requests("/ok"), what="the message")
        assert len({request["headers"]["webhook-id"] for request in receiver.requests("/ok")}) == 1
