"""The workflow of retention, and the clock that asks for it."""

import time

from dbos import DBOS

from app.contracts.retention import Kind
from app.db.repositories.retention import RetentionRuns
from app.db.session import Database
from app.jobs import Jobs, Workflow
from app.settings import Settings
from workers import durable, liveness
from workers.retention import steps
from workers.runtime import current

LOOKING_SECONDS = 60.0

close_abandoned = durable.step("close_abandoned", lambda: len(liveness.close_abandoned(current().database)))
expire = durable.step("expire", lambda run_id, kind: steps.expire(run_id, Kind(kind)))
finish = durable.step("finish_retention", steps.finish)
fail = durable.step("fail_retention", steps.fail)


# It computes nothing that could end its worker, so it is never given up, however often its worker dies.
@DBOS.workflow(name=Workflow.RETAIN.value, max_recovery_attempts=None)
def retain(run_id: str) -> str:
    """Go through all kinds. The queue lets one of these run at a time, on all workers together."""
    try:
        # What the engine gave up has to be known before the engine forgets it.
        close_abandoned()
        for kind in Kind:
            expire(run_id, kind.value)
        finish(run_id)
    except Exception:
        fail(run_id)
        raise
    return run_id


def ask_when_due(settings: Settings, database: Database, jobs: Jobs) -> None:
    """Ask for a run in each interval; of all workers, the first to ask does."""
    seconds = settings.retention_hours * 3600
    run_id = f"ret_{int(time.time() / seconds) * int(seconds * 1e6):014x}"
    with database.reading() as session:
        if RetentionRuns(session).get(run_id) is not None:
            return
    with database.transaction() as session:
        if RetentionRuns(session).claim(run_id):
            jobs.retain(session, run_id)


def looking_seconds(settings: Settings) -> float:
    """How often to look whether an interval has begun."""
    return min(LOOKING_SECONDS, settings.retention_hours * 3600)
