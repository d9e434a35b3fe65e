"""Heartbeats, and taking over from the dead.

The engine's free core recovers work only at launch and only for the same executor, so liveness is ours: every worker
beats by the database's clock, and returns what silent workers held to the queues. A worker that was only paused finds
its row gone, registers anew, and may run a step a second time: evidence is renamed into place and scores are inserted
once, so the result stays single and right.
"""

import os
import socket
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from dbos import DBOS

from app.contracts.problems import failure
from app.db.repositories.unfinished import Unfinished
from app.db.repositories.workers import Workers
from app.db.session import Database
from app.settings import Settings

GIVEN_UP = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "CANCELLED")
ENDED = ("SUCCESS", *GIVEN_UP)
FORGETTING_SECONDS = 3600
FORGOTTEN_AT_ONCE = 500

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


def requeue_pending(executors: list[str]) -> int:
    """Return what these executors held to the queues; idempotent and atomic for each workflow.

    The engine's own recovery keeps the count of attempts, and so its protection against poison; the public way
    (`resume_workflow`) forgets it. It is internal: the version is pinned, and tests kill real workers.
    """
    return len(DBOS._recover_pending_workflows(executors))


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
    """Close rows whose job the engine has given up, so that nobody waits for them for ever."""
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


def forget_ended(history: timedelta) -> int:
    """Remove jobs that ended longer ago from the engine's tables, which would else grow for ever; how many."""
    before = (datetime.now(UTC) - history).isoformat()
    forgotten = 0
    while True:
        # A child goes with its parent, which may still ask for the child's answer.
        ended = DBOS.list_workflows(
            status=list(ENDED),
            completed_before=before,
            has_parent=False,
            limit=FORGOTTEN_AT_ONCE,
            load_input=False,
            load_output=False,
        )
        if not ended:
            return forgotten
        DBOS.delete_workflows([workflow.workflow_id for workflow in ended], delete_children=True)
        forgotten += len(ended)


class Liveness:
    """A thread that beats for this worker and looks after its peers."""

    def __init__(self, settings: Settings, database: Database, executor: str, device: str) -> None:
        self._settings = settings
        self._database = database
        self._executor = executor
        self._device = device
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)

    def start(self) -> None:
        """Register, take over from the dead once, then keep doing so."""
        self._register()
        self.take_over()
        self._thread.start()

    def stop(self) -> None:
        """Tell the peers that they need not wait for this worker's silence."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._database.transaction() as session:
            Workers(session).stop(self._executor)

    def _register(self) -> None:
        with self._database.transaction() as session:
            Workers(session).register(
                identifier=self._executor,
                host=host_name(),
                boot=boot_identifier(),
                pid=os.getpid(),
                device=self._device,
            )

    def _run(self) -> None:
        next_forgetting = time.monotonic()
        while not self._stop.wait(self._settings.heartbeat_seconds):
            try:
                self.beat()
                self.take_over()
                close_abandoned(self._database)
                if time.monotonic() >= next_forgetting:
                    forget_ended(timedelta(days=self._settings.job_history_days))
                    next_forgetting = time.monotonic() + FORGETTING_SECONDS
            except Exception:
                # The database may be away for a while; the worker goes on, and beats again when it is back.
                log.exception("heartbeat failed")

    def beat(self) -> None:
        """Say that this worker lives; register anew if its peers took it for dead."""
        with self._database.transaction() as session:
            beaten = Workers(session).beat(self._executor)
        if not beaten:
            log.warning("this worker was taken for dead", executor=self._executor)
            self._register()

    def take_over(self) -> list[str]:
        """Re-enqueue what dead workers held. A row stays until nothing of its worker is pending."""
        dead = [name for name in self._dead() if name != self._executor]
        if not dead:
            return []
        moved = requeue_pending(dead)
        if moved:
            log.warning("took over from dead workers", workers=dead, workflows=moved)
        settled = [name for name in dead if not DBOS.list_workflows(executor_id=[name], status="PENDING", limit=1)]
        with self._database.transaction() as session:
            Workers(session).forget(settled)
        return dead

    def _dead(self) -> set[str]:
        """Silent workers, and those of this host whose process is gone: no need to wait for their silence."""
        with self._database.reading() as session:
            workers = Workers(session)
            dead = set(workers.silent(limit_seconds=self._settings.heartbeat_limit_seconds))
            neighbours = workers.on_host(host=host_name(), boot=boot_identifier())
        own = os.getpid()
        return dead | {name for name, pid in neighbours if name != self._executor and (pid == own or not is_alive(pid))}
