"""What waits and what runs, by the job engine's own table, which lies in our database."""

from sqlalchemy import column, func, literal_column, select, table
from sqlalchemy.orm import Session

# The engine's word for a job that waits, and for one that runs.
STATES = {"ENQUEUED": "waiting", "PENDING": "running"}


def jobs_in_flight(session: Session) -> dict[tuple[str, str], int]:
    """(queue, ``waiting`` or ``running``) -> number of jobs."""
    schema = None if session.get_bind().dialect.name == "sqlite" else "dbos"
    jobs = table("workflow_status", column("queue_name"), column("status"), schema=schema)
    # Literals, so that the planner sees that the engine's partial index on jobs in flight holds all of these rows.
    in_flight = jobs.c.status.in_([literal_column(f"'{status}'") for status in STATES])
    rows = session.execute(
        select(jobs.c.queue_name, jobs.c.status, func.count())
        .where(in_flight, jobs.c.queue_name.is_not(None))
        .group_by(jobs.c.queue_name, jobs.c.status)
    )
    return {(queue, STATES[status]): number for queue, status, number in rows}
