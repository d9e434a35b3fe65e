"""kill -9 at the worst moments: nothing is lost, nothing is done twice, nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.conftest import NewDatabase
from tests.service import (
    FAST,
    PATIENCE,
    Service,
    descendants,
    draw_images,
    environment,
    is_running,
    processor_seconds,
    running,
    save_model,
    wait_for,
)

pytestmark = pytest.mark.timeout(300 * PATIENCE)

SLOW_MODELS = ["first", "second", "third"]


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    (tmp_path / "weights").mkdir()
    draw_images(tmp_path / "images" / "shapes", each=12, side=224)
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        data_roots=(tmp_path / "images",),
        model_roots=(tmp_path / "weights",),
        **FAST,
    )


def submit(service: Service) -> dict[str, Any]:
    """A ranking whose forward passes take seconds each."""
    service.call("POST", "/v1/datasets", {"location": str(service.settings.data_roots[0] / "shapes")})
    for seed, name in enumerate(SLOW_MODELS):
        body = save_model(service.settings.model_roots[0], name, "resnet34", num_classes=10, seed=seed)
        service.call("POST", "/v1/models", body)
    ranking: dict[str, Any] = service.call(
        "POST", "/v1/rankings", {"target": "shapes", "models": SLOW_MODELS, "metrics": ["leep", "tmi"]}
    )
    return ranking


def in_the_middle(service: Service, ranking: dict[str, Any]) -> bool:
    """One model has ended and the next is in its forward pass."""
    rows = service.rows(ranking)
    return rows["first"]["state"] == "succeeded" and rows["second"]["stage"] == "forward"


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_after_kill_of_everything_a_restart_finishes_without_repeating(settings: Settings) -> None:
    with running(settings) as service:
        ranking = submit(service)
        wait_for(lambda: in_the_middle(service, ranking), seconds=120)
        everyone = service.processes()
        server, worker = everyone[0], descendants(everyone[0])[0]
        kill(server, worker)
        wait_for(lambda: not any(is_running(pid) for pid in everyone), seconds=10, what="no orphan")
    with running(settings) as service:
        ended = service.until_final(ranking)
        assert ended["state"] == "succeeded"
        # A model that ran twice would have been counted twice.
        assert ended["counters"]["models_loaded"] == len(SLOW_MODELS)
        assert ended["counters"]["images_decoded"] == 48
        assert ended["counters"]["scores_computed"] == 2 * len(SLOW_MODELS)


def test_when_the_server_alone_is_killed_its_worker_ends(new_sqlite: NewDatabase, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", database_url=new_sqlite(), **FAST)
    with running(settings) as service:
        everyone = service.processes()
        kill(service.process.pid)
        wait_for(lambda: not any(is_running(pid) for pid in everyone), seconds=20, what="no orphan")


def computing(workers: list["subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes] | None":
    """A worker one of whose child processes takes most of a core."""
    before = {worker.pid: seconds_of_children(worker.pid) for worker in workers}
    time.sleep(0.5)
    return next((worker for worker in workers if seconds_of_children(worker.pid) - before[worker.pid] > 0.2), None)


def seconds_of_children(pid: int) -> float:
    return sum(processor_seconds(child) for child in descendants(pid))


def test_a_peer_takes_over_from_a_killed_worker(settings: Settings) -> None:
    workers = []
    try:
        with running(settings, "--no-worker") as service:
            command = [sys.executable, "-m", "workers"]
            workers = [subprocess.Popen(command, env=environment(settings), stdin=subprocess.DEVNULL) for _ in range(2)]
            ranking = submit(service)
            wait_for(lambda: service.rows(ranking)["first"]["state"] == "succeeded", seconds=120)
            victim = wait_for(lambda: computing(workers), what="a worker in a forward pass")
            kill(victim.pid)
            victim.wait()
            ended = service.until_final(ranking)
            assert (ended["state"], ended["models_by_state"]) == ("succeeded", {"succeeded": len(SLOW_MODELS)})
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait(timeout=30 * PATIENCE)


def test_cancelling_stops_the_forward_pass(new_sqlite: NewDatabase, settings: Settings) -> None:
    with running(settings) as service:
        ranking = submit(service)
        wait_for(lambda: service.rows(ranking)["first"]["stage"] == "forward", seconds=120)
        service.call("POST", f"/v1/rankings/{ranking['id']}/cancel")
        states = {row["state"] for row in service.rows(ranking).values()}
        assert states <= {"cancelled", "succeeded"}
        wait_for(lambda: not service.busy_children(), seconds=5, what="the end of the forward pass")
        # The device is free again: a small job does not wait for the cancelled forward pass.
        small = service.call(
            "POST",
            "/v1/rankings",
            {"target": "shapes", "models": ["third"], "metrics": ["tmi"], "sample": {"max_samples": 8}},
        )
        assert service.until_final(small)["state"] == "succeeded"
        service.call("POST", f"/v1/rankings/{ranking['id']}/cancel", status=409)
