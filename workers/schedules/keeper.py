"""Keeps the engine's scheduler true to the schedules' rows, and catches up with what was not fired.

The engine says when a schedule fires; the row says what that means. A crash between the two leaves them apart, and the
engine fires nothing for a moment at which no worker lived: every worker compares and repairs now and then. Doing it
twice, or in two workers at once, changes nothing: the engine fires each moment once.
"""

from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from app.contracts.problems import failure
from app.contracts.states import ScheduleState
from app.db.repositories.schedules import ScheduleRuns, Schedules
from app.db.schedule_tables import Schedule
from app.db.session import Database
from app.db.tables import now
from app.jobs import HeldSchedule, Jobs
from app.schedules import times
from app.settings import Settings
from app.webhooks.outbox import announce

# The engine delays a firing by up to ten seconds, so that workers do not all ask at once.
LATE = timedelta(seconds=15)
SCHEDULE_STOPPED = "schedule.stopped"
REVOKED = "the key of this schedule was revoked, so it runs no more; an admin may resume or delete it"

log = structlog.stdlib.get_logger(__name__)


class ScheduleKeeper:
    """Looks after the schedules, again and again."""

    def __init__(self, settings: Settings, database: Database, jobs: Jobs) -> None:
        self._settings = settings
        self._database = database
        self._jobs = jobs

    def look(self) -> None:
        """Stop what lost its key, repair what the engine holds, fire what is overdue."""
        stop_revoked(self._settings, self._database, self._jobs)
        with self._database.reading() as session:
            wanted = {row.id: row for row in Schedules(session).active()}
            latest = {identifier: ScheduleRuns(session).latest_due(identifier) for identifier in wanted}
        held = self._jobs.held()
        for identifier in held.keys() - wanted.keys():
            log.info("the engine forgets a schedule", schedule=identifier)
            self._jobs.release(identifier)
        for identifier, row in wanted.items():
            definition = HeldSchedule(row.cron, row.time_zone)
            if held.get(identifier) != definition:
                log.info("the engine holds a schedule", schedule=identifier)
                self._jobs.hold(identifier, definition)
            due = overdue(row, [latest[identifier], held.get(identifier, definition).fired], present=now())
            if due is not None:
                log.warning("a schedule was not fired in time", schedule=identifier, due=due.isoformat())
                self._jobs.fire(identifier, due)


def overdue(row: Schedule, fired: list[datetime | None], *, present: datetime) -> datetime | None:
    """The newest moment at which a schedule was due but not fired; earlier ones are not caught up with."""
    since = max([row.active_since, *(moment for moment in fired if moment is not None)])
    return times.latest_due(row.cron, row.time_zone, after=since, until=present - LATE)


def stop(session: Session, settings: Settings, jobs: Jobs, row: Schedule) -> None:
    """Stop a locked schedule whose key was revoked, and tell its webhook."""
    row.state, row.problem = ScheduleState.STOPPED, failure("forbidden", REVOKED)
    jobs.release_schedule(session, row.id)
    if row.webhook_id is not None:
        data = {"schedule_id": row.id, "schedule": row.name, "problem": REVOKED}
        announce(session, jobs, settings, row.webhook_id, kind=SCHEDULE_STOPPED, data=data)
    log.warning("a schedule stops, for its key was revoked", schedule=row.id)


def stop_revoked(settings: Settings, database: Database, jobs: Jobs) -> None:
    """Stop the schedules whose key was revoked, and say so."""
    with database.reading() as session:
        found = [row.id for row in Schedules(session).of_revoked_keys()]
    if not found:
        return
    with database.transaction() as session:
        for identifier in found:
            row = Schedules(session).lock(identifier)
            if row is not None and row.state is not ScheduleState.STOPPED:
                stop(session, settings, jobs, row)
