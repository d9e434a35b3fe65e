"""Rules of schedules: what may be asked for, and what changes of state mean."""

from datetime import timedelta

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.db.repositories.schedules import ScheduleRuns, Schedules
from app.db.schedule_tables import Schedule, ScheduleRun, ScheduleState
from app.db.tables import now
from app.errors import Conflict, Invalid, NotFound
from app.jobs import Jobs
from app.schedules import times
from app.schemas.schedules import ScheduleCreate
from app.services import models as model_rules
from app.services import webhooks as webhook_rules
from app.services.ownership import check_owner
from app.settings import Settings
from app.submission.rankings import chosen_metrics, usable_dataset

# What of the request tells when; the rest tells what, and is kept as each run asks it.
WHEN = {"name", "cron", "time_zone", "webhook", "targets", "zoo", "shared"}


def create(session: Session, jobs: Jobs, settings: Settings, caller: Caller, body: ScheduleCreate) -> Schedule:
    """Store a schedule, and have the engine hold it once this transaction commits."""
    schedules = Schedules(session)
    if schedules.name_is_taken(caller.owner, body.name):
        raise Conflict(f"you have a schedule named {body.name!r} already; give another `name`, or replace that one")
    row = Schedule(owner=caller.owner)
    _define(session, settings, caller, row, body)
    schedules.add(row)
    jobs.hold_schedule(session, row)
    return row


def replace(
    session: Session, jobs: Jobs, settings: Settings, caller: Caller, reference: str, body: ScheduleCreate
) -> Schedule:
    """Give a schedule another definition; its runs and its state stay."""
    row = own(session, caller, reference)
    if body.name != row.name and Schedules(session).name_is_taken(row.owner, body.name):
        raise Conflict(f"there is a schedule named {body.name!r} already; give another `name`")
    _define(session, settings, caller, row, body)
    session.flush()
    if row.state is ScheduleState.ACTIVE:
        jobs.hold_schedule(session, row)
    return row


def _define(session: Session, settings: Settings, caller: Caller, row: Schedule, body: ScheduleCreate) -> None:
    moment = now()
    shortest = timedelta(seconds=settings.schedule_shortest_seconds)
    try:
        times.check(body.cron, body.time_zone, shortest=shortest, present=moment)
    except times.BadTimes as error:
        raise Invalid.at("/time_zone" if "time zone" in str(error) else "/cron", str(error)) from error
    chosen_metrics(body.metrics)
    targets = [usable_dataset(session, caller, name, f"/targets/{number}") for number, name in enumerate(body.targets)]
    if len({target.id for target in targets}) < len(targets):
        raise Invalid.at("/targets", "two of the names are the same data set")
    if body.reference is not None:
        usable_dataset(session, caller, body.reference, "/reference")
    try:
        zoo = model_rules.get_zoo(session, caller, body.zoo)
    except NotFound as error:
        raise Invalid.at("/zoo", error.detail) from error
    row.webhook_id = _webhook(session, caller, body.webhook)
    row.name, row.cron, row.time_zone, row.shared = body.name, body.cron, body.time_zone, body.shared
    row.request = body.model_dump(mode="json", exclude=WHEN) | {
        "zoo": {"id": zoo.id, "name": zoo.name},
        "targets": [{"id": target.id, "name": target.name} for target in targets],
    }
    row.active_since = moment


def _webhook(session: Session, caller: Caller, reference: str | None) -> str | None:
    if reference is None:
        return None
    try:
        return webhook_rules.own(session, caller, reference).id
    except NotFound as error:
        raise Invalid.at("/webhook", error.detail) from error


def get(session: Session, caller: Caller, reference: str) -> Schedule:
    """The schedule of this id or name."""
    row = Schedules(session).find(caller, reference)
    if row is None:
        raise NotFound(f"there is no schedule {reference!r}; GET /v1/schedules lists them")
    return row


def own(session: Session, caller: Caller, reference: str) -> Schedule:
    """As `get`; only its key or an admin may go on."""
    row = get(session, caller, reference)
    check_owner(caller, row.owner, f"{row.name!r}")
    return row


def pause(session: Session, jobs: Jobs, caller: Caller, reference: str) -> Schedule:
    """Let no run start by the clock; one that is under way ends as it would."""
    row = own(session, caller, reference)
    if row.state is not ScheduleState.ACTIVE:
        raise Conflict(f"{row.name!r} is {row.state.value}")
    row.state = ScheduleState.PAUSED
    session.flush()
    jobs.release_schedule(session, row.id)
    return row


def resume(session: Session, jobs: Jobs, caller: Caller, reference: str) -> Schedule:
    """Go on from now: what was due meanwhile is not caught up with. An admin may resume one that was stopped."""
    row = own(session, caller, reference)
    if row.state is ScheduleState.ACTIVE:
        raise Conflict(f"{row.name!r} is active")
    row.state, row.problem, row.active_since = ScheduleState.ACTIVE, None, now()
    session.flush()
    jobs.hold_schedule(session, row)
    return row


def run_now(session: Session, jobs: Jobs, caller: Caller, reference: str) -> ScheduleRun:
    """Start a run by hand, also of a schedule that is paused."""
    row = own(session, caller, reference)
    # Two callers at once must not both find that none is under way.
    Schedules(session).lock(row.id)
    runs = ScheduleRuns(session)
    if row.state is ScheduleState.STOPPED:
        raise Conflict(f"{row.name!r} is stopped: its key was revoked")
    if unfinished := runs.open_run(row.id):
        raise Conflict(f"{unfinished.id} is under way; a schedule never overlaps with itself")
    run = runs.add(ScheduleRun(schedule_id=row.id, scheduled_at=now(), by_hand=True))
    run.job = run.id
    jobs.run_schedule(session, run.id)
    return run


def delete(session: Session, jobs: Jobs, caller: Caller, reference: str) -> None:
    """Forget a schedule and its runs; their rankings stay."""
    row = own(session, caller, reference)
    if unfinished := ScheduleRuns(session).open_run(row.id):
        raise Conflict(f"{unfinished.id} is under way; wait for its end, or cancel its rankings")
    jobs.release_schedule(session, row.id)
    Schedules(session).delete(row)


def run(session: Session, caller: Caller, reference: str, run_id: str) -> ScheduleRun:
    """One run of a schedule; `latest` is the newest."""
    row = get(session, caller, reference)
    runs = ScheduleRuns(session)
    if run_id == "latest":
        newest = runs.page(row.id, limit=1, before=None)
        if not newest:
            raise NotFound(f"{row.name!r} has not run yet")
        return newest[0]
    found = runs.get(run_id)
    if found is None or found.schedule_id != row.id:
        raise NotFound(f"there is no run {run_id!r}; GET /v1/schedules/{row.id}/runs lists them")
    return found
