"""What waits and what runs, by the job engine's own table, which lies in our database."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, TableClause, column, func, literal_column, select, table
from sqlalchemy.orm import Session

from app.db.session import database_seconds

# The engine's word for a job that waits, and for one that runs.
STATES = {"ENQUEUED": "waiting", "PENDING": "running"}


class RunningJob(NamedTuple):
    """A job that a worker executes, and for how many seconds it has."""

    worker: str
    workflow: str
    seconds: float


def _jobs(session: Session) -> TableClause:
    names = ("queue_name", "status", "executor_id", "name", "started_at_epoch_ms")
    schema = None if session.get_bind().dialect.name == "sqlite" else "dbos"
    return table("workflow_status", *(column(name) for name in names), schema=schema)


def _in_flight(jobs: TableClause) -> ColumnElement[bool]:
    # Literals, so that the planner sees that the engine's partial index on jobs in flight holds all of these rows.
    return jobs.c.status.in_([literal_column(f"'{status}'") for status in STATES])


def running_jobs(session: Session, workflows: Sequence[str]) -> list[RunningJob]:
    """Those of these workflows that are executed now, the longest first."""
    jobs = _jobs(session)
    rows = session.execute(
        select(jobs.c.executor_id, jobs.c.name, database_seconds() - jobs.c.started_at_epoch_ms / 1000.0)
        .where(_in_flight(jobs), jobs.c.status == "PENDING", jobs.c.name.in_(workflows))
        .order_by(jobs.c.started_at_epoch_ms)
    )
    return [RunningJob(worker, workflow, max(0.0, float(seconds or 0))) for worker, workflow, seconds in rows]


def jobs_in_flight(session: Session) -> dict[tuple[str, str], int]:
    """(queue, ``waiting`` or ``running``) -> number of jobs."""
    jobs = _jobs(session)
    rows = session.execute(
        select(jobs.c.queue_name, jobs.c.status, func.count())
        .where(_in_flight(jobs), jobs.c.queue_name.is_not(None))
        .group_by(jobs.c.queue_name, jobs.c.status)
    )
    return {(queue, STATES[status]): number for queue, status, number in rows}
