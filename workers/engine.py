"""All that is asked of the job engine beyond its public interface.

The engine lives in our database, so its own record of which execution holds a job serves as the lease of every row that
the job writes: a worker's transaction first locks and compares it. Only queries on the engine's table of jobs and one
predicate are used; the version is pinned, and tests kill real workers and databases.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from dbos import _sys_db, _workflow_commands
from dbos._context import current_owner_xid, get_local_dbos_context
from dbos._dbos import _get_dbos_instance
from dbos._queue import Queue as EngineQueue
from dbos._utils import INTERNAL_QUEUE_NAME
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    TableClause,
    case,
    cast,
    column,
    delete,
    func,
    literal,
    literal_column,
    null,
    select,
    table,
    update,
)
from sqlalchemy.orm import Session

from app.db.outages import is_outage
from app.db.session import database_seconds
from app.jobs import ENDED, Queue

PENDING = "PENDING"
ENQUEUED = "ENQUEUED"
QUEUE_SECONDS = 30.0
SHORTEST_LOOK_SECONDS = 0.04
LONGEST_LOOK_SECONDS = 1.0
# Where the engine keeps what jobs were given and what they answered.
HISTORY = {
    "workflow_status": ("inputs", "output", "error"),
    "workflow_input": ("inputs",),
    "workflow_output": ("output", "error"),
    "operation_outputs": ("output", "error"),
}
# The engine holds a lock between two looks at delayed jobs, and PostgreSQL ends a session that idles for 5 s in it.
LONGEST_DELAY_LOOK_SECONDS = 3.5


class Abandoned(BaseException):
    """This execution must end without a trace, since its job belongs to another one or is about to.

    Not an ``Exception``: the engine records those as the outcome of the job.
    """


@dataclass(frozen=True)
class Lease:
    """One execution's right to write for its job."""

    job: str
    owner: str


def widen_retries() -> None:
    """Have the engine wait out every loss of the database; by itself it knows a few messages of the driver only.

    Raises:
        RuntimeError: the engine no longer asks its predicate where it did.
    """
    if not callable(getattr(_sys_db, "retriable_postgres_exception", None)):
        raise RuntimeError("the job engine's retries have moved; an outage of the database would strand its jobs")
    _sys_db.retriable_postgres_exception = is_outage  # type: ignore[attr-defined, assignment]


def look_at_delays_every(seconds: float) -> None:
    """Have the engine look this often for jobs whose delay is over, at most ``LONGEST_DELAY_LOOK_SECONDS`` apart.

    By itself it does each second, which is half of what an idle worker costs. Call it before the engine starts.

    Raises:
        RuntimeError: the engine no longer keeps the interval where it did.
    """
    if not isinstance(getattr(_workflow_commands, "_BACKGROUND_JOBS_INTERVAL_SEC", None), float):
        raise RuntimeError("the job engine's interval of background jobs has moved")
    _workflow_commands._BACKGROUND_JOBS_INTERVAL_SEC = min(seconds, LONGEST_DELAY_LOOK_SECONDS)


def poll_cheaply(has_work: Callable[[str], bool], interval: Callable[[], float]) -> None:
    """Have the engine's threads wait for an interval, and ask for work before they open a transaction on a queue.

    Which queues there are and what they permit is read every ``QUEUE_SECONDS`` only: it changes when a worker with
    other settings starts. Looks do not become rarer when another worker was faster: by itself the engine doubles its
    pause each time, up to two minutes.
    """
    system = _get_dbos_instance()._sys_db
    read, read_all, scopes = system.get_queue, system.list_queues, system.dequeue_scopes
    is_held, is_lost = system.is_lock_conflict, system.is_serialization_conflict
    known: dict[str, tuple[float, EngineQueue | None]] = {}
    all_known: tuple[float, list[EngineQueue]] = (-math.inf, [])

    def get_queue(name: str) -> EngineQueue | None:
        moment = time.monotonic()
        if name not in known or moment - known[name][0] > QUEUE_SECONDS:
            known[name] = (moment, read(name))
        queue = known[name][1]
        if queue is not None:
            queue._polling_interval_sec = interval()
        return queue

    def list_queues(**application: Any) -> list[EngineQueue]:
        nonlocal all_known
        moment = time.monotonic()
        if moment - all_known[0] > QUEUE_SECONDS:
            all_known = (moment, read_all(**application))
        return all_known[1]

    def dequeue_scopes(name: str) -> list[str | None]:
        return scopes(name) if has_work(name) else []

    system.is_lock_conflict = lambda error: is_held(error) or is_lost(error)  # type: ignore[method-assign]
    system.get_queue = get_queue  # type: ignore[method-assign, assignment]
    system.list_queues = list_queues  # type: ignore[method-assign]
    system.dequeue_scopes = dequeue_scopes  # type: ignore[method-assign, assignment]


def runs_jobs() -> bool:
    """Whether this process executes a job."""
    return bool(_jobs_here())


def seconds_between_looks() -> float:
    """How often a job looks for the outcome of another: the rarer, the more jobs of this process do."""
    return min(LONGEST_LOOK_SECONDS, SHORTEST_LOOK_SECONDS * max(1, len(_jobs_here())))


def _jobs_here() -> list[str]:
    return _get_dbos_instance()._active_workflows_set.activeList()


def queues_with_work(session: Session) -> frozenset[str]:
    """Names of the queues in which a job waits to be taken."""
    jobs = _jobs(session)
    # Literals, so that the planner sees that the engine's partial index on jobs in flight holds all of these rows.
    waits = jobs.c.status == literal_column(f"'{ENQUEUED}'")
    in_flight = jobs.c.status.in_([literal_column(f"'{ENQUEUED}'"), literal_column(f"'{PENDING}'")])
    return frozenset(session.scalars(select(jobs.c.queue_name).where(waits, in_flight).distinct()))


def earliest_priority(session: Session, queue: Queue, first: int, last: int) -> int | None:
    """Of the queue's jobs in flight whose priority lies between these; None without any."""
    jobs = _jobs(session)
    in_flight = jobs.c.status.in_([literal_column(f"'{ENQUEUED}'"), literal_column(f"'{PENDING}'")])
    wanted = (jobs.c.queue_name == queue.value, jobs.c.priority.between(first, last))
    earliest: int | None = session.scalar(select(func.min(jobs.c.priority)).where(in_flight, *wanted))
    return earliest


def stranded_jobs(session: Session, version: str) -> dict[str, int]:
    """Version of the application -> number of its jobs in flight, which no worker of ``version`` takes."""
    jobs = _jobs(session)
    rows = session.execute(
        select(jobs.c.application_version, func.count().label("number"))
        .where(jobs.c.status.in_([ENQUEUED, PENDING]), jobs.c.application_version != version)
        .group_by(jobs.c.application_version)
    )
    return {row.application_version: row.number for row in rows}


def current_lease() -> Lease | None:
    """Of the job that this thread executes; None outside the engine."""
    context = get_local_dbos_context()
    if context is None or not context.workflow_id:
        return None
    owner = current_owner_xid(context.workflow_id)
    return None if owner is None else Lease(context.workflow_id, owner)


def hold(session: Session, lease: Lease) -> None:
    """Keep the lease until the end of this transaction.

    Raises:
        Abandoned: another execution has taken the job over.
    """
    jobs = _jobs(session)
    owner = session.scalar(select(jobs.c.owner_xid).where(jobs.c.workflow_uuid == lease.job).with_for_update(read=True))
    if owner != lease.owner:
        raise Abandoned(f"{lease.job} belongs to another execution")


def requeue(session: Session, executors: Collection[str], *, count_deaths: bool) -> list[str]:
    """Return the jobs that these workers held to their queues.

    An attempt is counted against a job only if its worker died, and the job can have been the reason: the ones that
    used the device or, if none did, those that computed at the same time. A ranking only waits and is never the reason.

    Returns:
        Ids of the jobs.
    """
    jobs = _jobs(session)
    held = session.execute(
        select(jobs.c.workflow_uuid, jobs.c.executor_id, jobs.c.queue_name)
        .where(jobs.c.status == PENDING, jobs.c.executor_id.in_(executors))
        .with_for_update()
    ).all()
    device = {Queue.DEVICE.value, Queue.TRIALS.value}
    suspects = {name: device for _, name, queue in held if queue in device}
    beside = {Queue.SCORING.value, Queue.INSPECTIONS.value}
    blamed = [job for job, name, queue in held if count_deaths and queue in suspects.get(name, beside)]
    _return(session, jobs.c.executor_id.in_(executors), keep_attempts_of=blamed)
    return [job for job, _, _ in held]


def size_of_jobs(session: Session, roots: Sequence[str]) -> tuple[int, int]:
    """How many jobs these are with all that they started, and the characters of their arguments and answers."""
    jobs = _jobs(session)
    family = select(jobs.c.workflow_uuid).where(jobs.c.workflow_uuid.in_(roots)).cte("family", recursive=True)
    family = family.union(
        select(jobs.c.workflow_uuid).join(family, jobs.c.parent_workflow_id == family.c.workflow_uuid)
    )
    number = session.scalar(select(func.count()).select_from(family)) or 0
    size = 0
    for name, columns in HISTORY.items():
        part = table(name, column("workflow_uuid"), *(column(each) for each in columns), schema=jobs.schema)
        length = sum((func.coalesce(func.length(part.c[each]), 0) for each in columns), start=literal(0))
        members = part.c.workflow_uuid.in_(select(family.c.workflow_uuid))
        size += int(session.scalar(select(func.coalesce(func.sum(length), 0)).where(members)) or 0)
    return number, size


def forget_ended(session: Session, job: str) -> None:
    """Forget a job that has ended, so that one of the same id may be put into its queue by this transaction."""
    jobs = _jobs(session)
    gone = delete(jobs).where(jobs.c.workflow_uuid == job, jobs.c.status.in_(ENDED)).returning(jobs.c.workflow_uuid)
    if session.execute(gone).first() is None:
        return
    for name in HISTORY.keys() - {jobs.name}:
        part = table(name, column("workflow_uuid"), schema=jobs.schema)
        session.execute(delete(part).where(part.c.workflow_uuid == job))


def waited_for(session: Session) -> set[str]:
    """Jobs that started one which has not ended, however many steps down."""
    jobs = _jobs(session)
    unfinished = jobs.c.status.not_in(ENDED) & jobs.c.parent_workflow_id.is_not(None)
    above = select(jobs.c.parent_workflow_id.label("job")).where(unfinished).cte("above", recursive=True)
    parents = select(jobs.c.parent_workflow_id).join(above, jobs.c.workflow_uuid == above.c.job)
    above = above.union(parents.where(jobs.c.parent_workflow_id.is_not(None)))
    return set(session.scalars(select(above.c.job)))


def stray_jobs(session: Session, executor: str, living: Iterable[str]) -> set[Lease]:
    """Jobs that count as running but run nowhere: on this worker though not in this process, or on an unknown one."""
    jobs = _jobs(session)
    here = set(_get_dbos_instance()._active_workflows_set.activeList())
    held = session.execute(
        select(jobs.c.workflow_uuid, jobs.c.owner_xid, jobs.c.executor_id).where(jobs.c.status == PENDING)
    ).all()
    known = set(living)
    return {
        Lease(job, owner)
        for job, owner, name in held
        if owner is not None and ((name == executor and job not in here) or name not in known)
    }


def requeue_strays(session: Session, strays: Iterable[Lease]) -> None:
    """Return jobs to their queues unless somebody took them in between; no attempt is counted."""
    jobs = _jobs(session)
    for stray in strays:
        _return(session, (jobs.c.workflow_uuid == stray.job) & (jobs.c.owner_xid == stray.owner))


def _return(session: Session, which: ColumnElement[bool], *, keep_attempts_of: Collection[str] = ()) -> None:
    jobs = _jobs(session)
    session.execute(
        update(jobs)
        .where(jobs.c.status == PENDING, which)
        .values(
            status=ENQUEUED,
            owner_xid=null(),
            started_at_epoch_ms=null(),
            updated_at=cast(database_seconds() * 1000, BigInteger),
            queue_name=func.coalesce(jobs.c.queue_name, INTERNAL_QUEUE_NAME),
            recovery_attempts=jobs.c.recovery_attempts - case((jobs.c.workflow_uuid.in_(keep_attempts_of), 0), else_=1),
        )
    )


def _jobs(session: Session) -> TableClause:
    return _table(None if session.get_bind().dialect.name == "sqlite" else "dbos")


@cache
def _table(schema: str | None) -> TableClause:
    names = (
        "workflow_uuid",
        "status",
        "application_version",
        "executor_id",
        "owner_xid",
        "queue_name",
        "recovery_attempts",
        "started_at_epoch_ms",
        "updated_at",
        "parent_workflow_id",
        "priority",
    )
    return table("workflow_status", *(column(name) for name in names), schema=schema)
