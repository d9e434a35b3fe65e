"""Rules of schedules: what may be asked for, and what changes of state mean."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.listing import Listing
from app.contracts.question import RankingOptions
from app.contracts.schedules import Named, RunReport, ScheduleRequest
from app.contracts.states import RunState, ScheduleState
from app.db.repositories.rankings import Rankings
from app.db.repositories.schedules import ScheduleRuns, Schedules
from app.db.schedule_tables import Schedule, ScheduleRun
from app.db.tables import now
from app.errors import Conflict, Invalid, NotFound
from app.jobs import Jobs
from app.schedules import times
from app.schedules.report import compose
from app.schemas.base import Problem
from app.schemas.page import Page, page_of
from app.schemas.schedules import (
    RunAnswer,
    RunTargetAnswer,
    ScheduleAnswer,
    ScheduleCreate,
)
from app.services import webhooks as webhook_rules
from app.services import zoos as zoo_rules
from app.services.ownership import check_owner
from app.settings import Settings
from app.submission.rankings import chosen_metrics, usable_dataset

NEXT_RUNS = 5


def answer(row: Schedule) -> ScheduleAnswer:
    """A schedule as users see it."""
    columns = ("id", "name", "owner", "shared", "created_at", "cron", "time_zone", "webhook_id", "state")
    due = times.next_times(row.cron, row.time_zone, after=now(), count=NEXT_RUNS)
    active = row.state is ScheduleState.ACTIVE
    return ScheduleAnswer(
        **{name: getattr(row, name) for name in columns},
        zoo=row.request.zoo.name,
        targets=row.request.targets,
        request=row.request.options,
        problem=Problem.of(row.problem),
        next_run_at=due[0] if active and due else None,
        next_runs=due if active else [],
    )


def _run_answers(session: Session, rows: Sequence[ScheduleRun]) -> dict[str, RunAnswer]:
    """Runs as users see them, by id."""
    targets = ScheduleRuns(session).targets([run.id for run in rows])
    rankings = Rankings(session)
    columns = ("id", "schedule_id", "scheduled_at", "by_hand", "state", "created_at", "started_at", "finished_at")
    return {
        run.id: RunAnswer(
            **{name: getattr(run, name) for name in columns},
            problem=Problem.of(run.problem),
            targets=[
                RunTargetAnswer(
                    target=target.target,
                    target_id=target.target_id,
                    data_change=target.data,
                    ranking_id=target.ranking_id,
                    state=rankings.state(target.ranking_id) if target.ranking_id else None,
                    problem=Problem.of(target.problem),
                )
                for target in targets[run.id]
            ],
        )
        for run in rows
    }


def _run_answer(session: Session, row: ScheduleRun) -> RunAnswer:
    return _run_answers(session, [row])[row.id]


def page(
    session: Session, caller: Caller, listing: Listing, *, state: ScheduleState | None = None
) -> Page[ScheduleAnswer]:
    """The schedules that the caller may see."""
    conditions = [] if state is None else [Schedule.state == state]
    return page_of(Schedules(session).page(caller, listing, conditions=conditions), listing.limit, answer)


def of_zoo(session: Session, caller: Caller, zoo_id: str) -> list[ScheduleAnswer]:
    """The schedules of a zoo that the caller may see, newest first."""
    return [answer(row) for row in Schedules(session).of_zoo(caller, zoo_id)]


def newest_runs(session: Session, schedules: Iterable[str]) -> dict[str, ScheduleRun]:
    """Schedule -> its newest run, of those that have run."""
    return ScheduleRuns(session).newest(schedules)


def show(session: Session, caller: Caller, reference: str) -> ScheduleAnswer:
    """The schedule of this id or name, as users see it."""
    return answer(get(session, caller, reference))


def create(session: Session, jobs: Jobs, settings: Settings, caller: Caller, body: ScheduleCreate) -> ScheduleAnswer:
    """Store a schedule, and have the engine hold it once this transaction commits."""
    schedules = Schedules(session)
    if schedules.name_is_taken(caller.owner, body.name):
        raise Conflict(f"you have a schedule named {body.name!r} already; give another `name`, or replace that one")
    row = Schedule(owner=caller.owner)
    _define(session, settings, caller, row, body)
    schedules.add(row)
    jobs.hold_schedule(session, row)
    return answer(row)


def replace(
    session: Session, jobs: Jobs, settings: Settings, caller: Caller, reference: str, body: ScheduleCreate
) -> ScheduleAnswer:
    """Give a schedule another definition; its runs and its state stay."""
    row = own(session, caller, reference)
    if body.name != row.name and Schedules(session).name_is_taken(row.owner, body.name):
        raise Conflict(f"there is a schedule named {body.name!r} already; give another `name`")
    _define(session, settings, caller, row, body)
    session.flush()
    if row.state is ScheduleState.ACTIVE:
        jobs.hold_schedule(session, row)
    return answer(row)


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
        zoo = zoo_rules.get(session, caller, body.zoo)
    except NotFound as error:
        raise Invalid.at("/zoo", error.detail) from error
    row.webhook_id = _webhook(session, caller, body.webhook)
    row.name, row.cron, row.time_zone, row.shared = body.name, body.cron, body.time_zone, body.shared
    row.request = ScheduleRequest(
        zoo=Named(id=zoo.id, name=zoo.name),
        targets=tuple(Named(id=target.id, name=target.name) for target in targets),
        **{name: getattr(body, name) for name in RankingOptions.model_fields},
    )
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


def pause(session: Session, jobs: Jobs, caller: Caller, reference: str) -> ScheduleAnswer:
    """Let no run start by the clock; one that is under way ends as it would."""
    row = own(session, caller, reference)
    if row.state is not ScheduleState.ACTIVE:
        raise Conflict(f"{row.name!r} is {row.state.value}")
    row.state = ScheduleState.PAUSED
    session.flush()
    jobs.release_schedule(session, row.id)
    return answer(row)


def resume(session: Session, jobs: Jobs, caller: Caller, reference: str) -> ScheduleAnswer:
    """Go on from now: what was due meanwhile is not caught up with. An admin may resume one that was stopped."""
    row = own(session, caller, reference)
    if row.state is ScheduleState.ACTIVE:
        raise Conflict(f"{row.name!r} is active")
    row.state, row.problem, row.active_since = ScheduleState.ACTIVE, None, now()
    session.flush()
    jobs.hold_schedule(session, row)
    return answer(row)


def run_now(session: Session, jobs: Jobs, caller: Caller, reference: str) -> RunAnswer:
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
    return _run_answer(session, run)


def delete(session: Session, jobs: Jobs, caller: Caller, reference: str) -> None:
    """Forget a schedule and its runs; their rankings stay."""
    row = own(session, caller, reference)
    if unfinished := ScheduleRuns(session).open_run(row.id):
        raise Conflict(f"{unfinished.id} is under way; wait for its end, or cancel its rankings")
    jobs.release_schedule(session, row.id)
    Schedules(session).delete(row)


def runs(
    session: Session, caller: Caller, reference: str, listing: Listing, *, state: RunState | None = None
) -> Page[RunAnswer]:
    """The runs of a schedule."""
    rows = ScheduleRuns(session).page(get(session, caller, reference).id, listing, state=state)
    shown = _run_answers(session, rows)
    return page_of(rows, listing.limit, lambda run: shown[run.id])


def show_run(session: Session, caller: Caller, reference: str, run_id: str) -> RunAnswer:
    """One run of a schedule, as users see it; `latest` is the newest."""
    return _run_answer(session, _run(session, caller, reference, run_id))


def report(session: Session, caller: Caller, reference: str, run_id: str) -> RunReport:
    """What a run found: what was stored at its end, or what can be said until then."""
    row = _run(session, caller, reference, run_id)
    if row.report is not None:
        return row.report
    return compose(session, get(session, caller, reference), row)


def _run(session: Session, caller: Caller, reference: str, run_id: str) -> ScheduleRun:
    row = get(session, caller, reference)
    runs = ScheduleRuns(session)
    if run_id == "latest":
        newest = runs.page(row.id, Listing(limit=1))
        if not newest:
            raise NotFound(f"{row.name!r} has not run yet")
        return newest[0]
    found = runs.get(run_id)
    if found is None or found.schedule_id != row.id:
        raise NotFound(f"there is no run {run_id!r}; GET /v1/schedules/{row.id}/runs lists them")
    return found
