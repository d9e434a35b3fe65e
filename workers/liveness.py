"""Heartbeats, and taking over from the dead.

The engine's free core recovers work only at launch and only for the same executor, so liveness is ours: every worker
beats by the database's clock, and returns what silent workers held to the queues. A worker that was only paused finds
its row gone and registers anew; what it held belongs to others, and it can write nothing for it (`workers.engine`).
An outage of the database silences all workers at once, so no worker judges others until it has itself been heard of
for as long as silence is allowed to last.
"""

import os
import socket
import threading
import time
import uuid
from pathlib import Path

import structlog
from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from app.contracts.problems import failure
from app.db.outages import is_outage
from app.db.repositories.unfinished import Unfinished
from app.db.repositories.workers import Workers
from app.db.session import Database
from app.jobs import GIVEN_UP
from app.settings import Settings
from workers import engine

JOIN_SECONDS = 5.0

log = structlog.stdlib.get_logger(__name__)


def host_name() -> str:
    """This host and, on Linux, its process namespace: containers may share a host's name but not its process ids."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{namespace}"


def boot_identifier() -> str:
    """Changes when the host reboots; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def executor_name(device: str) -> str:
    """A name that no other process, past or future, has."""
    return f"{socket.gethostname()}-{device}-{uuid.uuid4().hex[:12]}"


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def close_abandoned(database: Database) -> list[str]:
    """Close rows whose job the engine has given up, so that nobody waits for them forever."""
    with database.reading() as session:
        open_jobs = Unfinished(session).jobs()
    if not open_jobs:
        return []
    ended = DBOS.list_workflows(
        workflow_ids=list(open_jobs), status=list(GIVEN_UP), load_input=False, load_output=False
    )
    with database.transaction() as session:
        for workflow in ended:
            table, identifier = open_jobs[workflow.workflow_id]
            log.error("the engine gave up on a job", workflow=workflow.workflow_id, status=workflow.status)
            problem = failure("internal-error", "the job failed or crashed repeatedly; the worker's log says why")
            Unfinished(session).close(table, identifier, problem)
    return [workflow.workflow_id for workflow in ended]


class Liveness:
    """A thread that beats for this worker and looks after its peers."""

    def __init__(self, settings: Settings, database: Database, executor: str, device: str) -> None:
        self._settings = settings
        self._database = database
        self._executor = executor
        self._device = device
        self._heard_since: float | None = None
        self._heard_last = 0.0
        self._strays: set[engine.Lease] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)

    def start(self) -> None:
        """Take over from the dead once, then keep doing so."""
        self.take_over()
        self._thread.start()

    def stop(self) -> None:
        """Return what this worker holds to the queues, no attempt counted, and take it off the list."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=JOIN_SECONDS)
        try:
            with self._database.transaction() as session:
                moved = engine.requeue(session, [self._executor], count_deaths=False)
                Workers(session).forget([self._executor])
        except SQLAlchemyError as error:
            if not is_outage(error):
                raise
            # Without the database nothing can be handed over: the peers find this worker silent, or its process gone.
            log.warning("the database did not hear that this worker stops", error=type(error).__name__)
        else:
            log.info("work handed over", jobs=moved)

    def register(self) -> None:
        """Put this worker on the list."""
        with self._database.transaction() as session:
            Workers(session).register(
                identifier=self._executor,
                host=host_name(),
                boot=boot_identifier(),
                pid=os.getpid(),
                device=self._device,
            )

    def _run(self) -> None:
        while not self._stop.wait(self._settings.heartbeat_seconds):
            try:
                self.beat()
                self.take_over()
                close_abandoned(self._database)
                self.requeue_strays()
            except Exception as error:
                # The worker goes on, and beats again when the database is back.
                self._heard_since = None
                if is_outage(error):
                    log.warning("no heartbeat: the database is away", error=type(error).__name__)
                else:
                    log.exception("heartbeat failed")

    def beat(self) -> None:
        """Say that this worker lives; register anew if its peers took it for dead."""
        with self._database.transaction() as session:
            beaten = Workers(session).beat(self._executor)
        if not beaten:
            log.warning("this worker was taken for dead", executor=self._executor)
            self.register()
        moment = time.monotonic()
        if self._heard_since is None or moment - self._heard_last > self._settings.heartbeat_limit_seconds / 2:
            self._heard_since = moment
        self._heard_last = moment

    def take_over(self) -> list[str]:
        """Re-enqueue what dead workers held. A row stays until nothing of its worker is pending."""
        dead = sorted(self._dead() - {self._executor})
        if not dead:
            return []
        with self._database.transaction() as session:
            moved = engine.requeue(session, dead, count_deaths=True)
            Workers(session).forget(dead)
        log.warning("took over from dead workers", workers=dead, jobs=moved)
        return dead

    def requeue_strays(self) -> None:
        """Return jobs to the queues that count as running but run nowhere, once they were found so twice.

        A job is between its claim and its start for a moment, which is not what is looked for.
        """
        with self._database.transaction() as session:
            strays = engine.stray_jobs(session, self._executor, Workers(session).identifiers())
            lost = strays & self._strays
            engine.requeue_strays(session, lost)
        self._strays = strays - lost
        if lost:
            log.warning("requeued jobs that ran nowhere", jobs=sorted(stray.job for stray in lost))

    def _dead(self) -> set[str]:
        """Silent workers, and those of this host whose process is gone: no need to wait for their silence."""
        limit = self._settings.heartbeat_limit_seconds
        may_judge = self._heard_since is not None and time.monotonic() - self._heard_since >= limit
        with self._database.reading() as session:
            workers = Workers(session)
            silent = set(workers.silent(limit_seconds=limit)) if may_judge else set()
            neighbours = workers.on_host(host=host_name(), boot=boot_identifier())
        own = os.getpid()
        return silent | {
            name for name, pid in neighbours if name != self._executor and (pid == own or not is_alive(pid))
        }
