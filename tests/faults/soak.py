"""Faults at random moments, one after another, on one deployment: `python -m tests.faults.soak [rounds]`.

Asks one small ranking again and again, each time of a deployment that has forgotten its evidence and scores, and has
each fault happen while it runs, as often as there are rounds. Prints what was lost: rankings that did not end as the
undisturbed one did, to the bit; and what was done again: forward passes beyond one a model. Fails if anything was lost.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import delete

from app.db.session import Database
from app.db.tables import Score
from app.settings import Settings
from tests.conftest import migrate
from tests.faults.conftest import MODELS, CrashingDatabase, Drill
from tests.service import FINAL, Service, descendants, draw_images, environment, is_running, running, save_model

ARCHITECTURE = "resnet10t"
DEVICE_BEGINS = "the device begins a model"
LIMIT_SECONDS = 900.0
CRASH_SECONDS = 4.0


class Deployment:
    """A server with its worker, a second worker beside it, and a database that may be killed."""

    def __init__(self, settings: Settings, crashing: CrashingDatabase | None, outage_seconds: float) -> None:
        self.settings = settings
        self.crashing = crashing
        self.outage_seconds = outage_seconds
        self.service: Service
        self._second: subprocess.Popen[bytes] | None = None
        self._server = ExitStack()
        self._log = (settings.home.parent / "second-worker.log").open("ab")
        self.start()

    @property
    def worker(self) -> int:
        """Process id of the server's worker."""
        return descendants(self.service.process.pid)[0]

    def start(self) -> None:
        """Start what does not run."""
        self._server.close()
        self.service = self._server.enter_context(running(self.settings))
        if self._second is None or self._second.poll() is not None:
            self._second = subprocess.Popen(
                [sys.executable, "-m", "workers"],
                env=environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )

    def kill_everything(self) -> None:
        everyone = self.service.processes()
        assert self._second is not None
        for pid in (*everyone, self._second.pid):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        self._second.wait()
        self.start()

    def close(self) -> None:
        self._server.close()
        if self._second is not None:
            self._second.terminate()
            self._second.wait()
        self._log.close()

    def forget(self, ranking: dict[str, Any]) -> None:
        """Remove the ranking and all that a later one could use again."""
        self.service.call("DELETE", f"/v1/rankings/{ranking['id']}", status=204)
        database = Database(self.settings.url)
        with database.transaction() as session:
            session.execute(delete(Score))
        database.close()
        for folder in (self.settings.features_folder, self.settings.images_folder):
            shutil.rmtree(folder, ignore_errors=True)

    def passes_of(self, ranking: dict[str, Any]) -> int:
        """Forward passes that were begun for the ranking so far."""
        logs = (log.read_text(errors="replace") for log in self.settings.home.parent.glob("*.log"))
        lines = (line for log in logs for line in log.splitlines())
        return sum(DEVICE_BEGINS in line and ranking["id"] in line for line in lines)


def kill_the_worker(deployment: Deployment) -> None:
    os.kill(deployment.worker, signal.SIGKILL)


def kill_the_server(deployment: Deployment) -> None:
    deployment.service.process.kill()
    deployment.start()


def kill_everything(deployment: Deployment) -> None:
    deployment.kill_everything()


def stop_the_server(deployment: Deployment) -> None:
    deployment.service.process.send_signal(signal.SIGTERM)
    deployment.service.process.wait()
    deployment.start()


def pause_the_worker(deployment: Deployment) -> None:
    """For longer than its silence is allowed to last."""
    worker = deployment.worker
    os.kill(worker, signal.SIGSTOP)
    time.sleep(2 * deployment.settings.heartbeat_limit_seconds)
    os.kill(worker, signal.SIGCONT)


def crash_the_database(deployment: Deployment) -> None:
    _take_the_database_away(deployment, CRASH_SECONDS)


def outage_of_the_database(deployment: Deployment) -> None:
    _take_the_database_away(deployment, deployment.outage_seconds)


def _take_the_database_away(deployment: Deployment, seconds: float) -> None:
    assert deployment.crashing is not None
    deployment.crashing.kill()
    time.sleep(seconds)
    deployment.crashing.start()


FAULTS: dict[str, Callable[[Deployment], None]] = {
    fault.__name__: fault
    for fault in (kill_the_worker, kill_the_server, kill_everything, stop_the_server, pause_the_worker)
}
FAULTS_OF_A_SERVER: dict[str, Callable[[Deployment], None]] = {
    fault.__name__: fault for fault in (crash_the_database, outage_of_the_database)
}


def outcome(service: Service, ranking: dict[str, Any]) -> dict[str, Any] | None:
    """How a ranking ended, once it has; errors of the server while its database is away are waited out."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        try:
            answer = service.http.get(f"/v1/rankings/{ranking['id']}")
            if answer.status_code == 200 and answer.json()["state"] in FINAL:
                found = Drill.outcome(service, ranking)
                # What was computed before a kill and found after it counts as used again.
                del found["counters"]
                return found
        except httpx2.HTTPError:
            pass
        time.sleep(0.1)
    return None


def submit(deployment: Deployment) -> dict[str, Any]:
    body = {"target": "shapes", "models": list(MODELS), "metrics": ["leep", "tmi"]}
    ranking: dict[str, Any] = deployment.service.call("POST", "/v1/rankings", body)
    return ranking


def states(service: Service, ranking: dict[str, Any]) -> str:
    return " ".join(sorted(row["stage"] or row["state"] for row in service.rows(ranking).values()))


@contextmanager
def deployed(folder: Path, database: str, outage_seconds: float) -> Iterator[Deployment]:
    """A deployment with a data set and three models, on `sqlite`, or on PostgreSQL over a `socket` or `tcp`."""
    (folder / "weights").mkdir()
    draw_images(folder / "images" / "shapes", each=6, side=128)
    crashing = None if database == "sqlite" else CrashingDatabase(folder / "postgresql", database)
    settings = Settings(
        home=folder / "home",
        database_url=f"sqlite:///{folder}/soak.sqlite" if crashing is None else crashing.url,
        data_roots=(folder / "images",),
        model_roots=(folder / "weights",),
        heartbeat_seconds=0.5,
        heartbeat_limit_seconds=3,
        threads=1,
        device="cpu",
        rate_limit="100000/minute",
    )
    migrate(settings.url.render_as_string(hide_password=False))
    deployment = Deployment(settings, crashing, outage_seconds)
    try:
        deployment.service.call("POST", "/v1/datasets", {"location": str(folder / "images" / "shapes")})
        for seed, name in enumerate(MODELS):
            body = save_model(folder / "weights", name, ARCHITECTURE, num_classes=10, seed=seed)
            deployment.service.call("POST", "/v1/models", body)
        for path in ("/v1/datasets/shapes", *(f"/v1/models/{name}" for name in MODELS)):
            assert deployment.service.until_ready(path, seconds=LIMIT_SECONDS)["state"] == "ready"
        yield deployment
    finally:
        deployment.close()
        if crashing is not None:
            crashing.close()


def undisturbed(deployment: Deployment) -> tuple[dict[str, Any], float]:
    """The outcome that every ranking must have, and the seconds to it."""
    began = time.monotonic()
    ranking = submit(deployment)
    expected = outcome(deployment.service, ranking)
    assert expected is not None
    assert expected["states"] == {"succeeded"}, expected
    deployment.forget(ranking)
    return expected, time.monotonic() - began


def submit_and_wait(
    deployment: Deployment, usual_seconds: float, generator: random.Random
) -> tuple[dict[str, Any], float]:
    """A ranking that has run for a random time and not ended, and that time."""
    while True:
        ranking = submit(deployment)
        seconds = generator.uniform(0, usual_seconds)
        time.sleep(seconds)
        if deployment.service.call("GET", f"/v1/rankings/{ranking['id']}")["state"] not in FINAL:
            return ranking, seconds
        deployment.forget(ranking)


def soak(deployment: Deployment, names: list[str], generator: random.Random) -> int:
    """Have these faults happen, one a ranking; how many rankings were lost."""
    undisturbed(deployment)
    expected, usual_seconds = undisturbed(deployment)
    print(f"undisturbed: {usual_seconds:.1f} s", flush=True)
    lost = redone = 0
    for number, name in enumerate(names, start=1):
        ranking, moment = submit_and_wait(deployment, usual_seconds, generator)
        met, passes = states(deployment.service, ranking), deployment.passes_of(ranking)
        began = time.monotonic()
        (FAULTS | FAULTS_OF_A_SERVER)[name](deployment)
        found = outcome(deployment.service, ranking)
        again = deployment.passes_of(ranking) - len(MODELS)
        ended = f"ended after {time.monotonic() - began:.1f} s" if found == expected else f"LOST: {found}"
        print(
            f"{number:3} {name} {moment:.1f} s after it began ({met}; {passes} passes): {ended}, again: {again}",
            flush=True,
        )
        lost += found != expected
        redone += again
        if found is not None:
            deployment.forget(ranking)
    print(f"{len(names)} faults, lost: {lost}, forward passes done again: {redone}", flush=True)
    return lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=10, help="how often each fault happens")
    parser.add_argument("--database", choices=["sqlite", "socket", "tcp"], action="append", help="default: all")
    parser.add_argument("--fault", choices=[*FAULTS, *FAULTS_OF_A_SERVER], action="append", help="default: all")
    parser.add_argument("--outage-seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the order")
    given = parser.parse_args()
    lost = 0
    for database in given.database or ["sqlite", "socket", "tcp"]:
        possible = FAULTS if database == "sqlite" else FAULTS | FAULTS_OF_A_SERVER
        names = [name for name in possible if not given.fault or name in given.fault] * given.rounds
        generator = random.Random(given.seed)
        generator.shuffle(names)
        print(f"{database}: {given.rounds} rounds of {', '.join(sorted(set(names)))}", flush=True)
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            deployed(Path(folder), database, given.outage_seconds) as deployment,
        ):
            lost += soak(deployment, names, generator)
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
