"""Schedules: rankings that a cron expression repeats, their runs and reports."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response, status
from sqlalchemy.orm import Session

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import CursorQuery, LimitQuery, page_of
from app.api.paths import RunPath, SchedulePath
from app.api.problems import problem_responses
from app.api.representations import FINAL_RESPONSES, CsvResponse, MarkdownResponse, represent, represent_text
from app.api.route import Route
from app.db.repositories.rankings import Rankings
from app.db.repositories.schedules import ScheduleRuns, Schedules
from app.db.schedule_tables import RunState, Schedule, ScheduleRun, ScheduleState
from app.db.tables import now
from app.schedules import report as reports
from app.schedules import times
from app.schemas.base import Problem
from app.schemas.page import Page
from app.schemas.schedules import (
    RunAnswer,
    RunReport,
    RunTargetAnswer,
    ScheduleAnswer,
    ScheduleCreate,
    ScheduleTarget,
)
from app.services import schedules

router = APIRouter(prefix="/v1/schedules", tags=["schedules"], route_class=Route)

NEXT_RUNS = 5


def schedule_answer(row: Schedule) -> ScheduleAnswer:
    """A schedule as users see it."""
    columns = ("id", "name", "owner", "shared", "created_at", "cron", "time_zone", "webhook_id", "state")
    due = times.next_times(row.cron, row.time_zone, after=now(), count=NEXT_RUNS)
    active = row.state is ScheduleState.ACTIVE
    return ScheduleAnswer(
        **{name: getattr(row, name) for name in columns},
        zoo=row.request["zoo"]["name"],
        targets=[ScheduleTarget(**target) for target in row.request["targets"]],
        request={name: value for name, value in row.request.items() if name not in ("zoo", "targets")},
        problem=Problem.of(row.problem),
        next_run_at=due[0] if active and due else None,
        next_runs=due if active else [],
    )


def run_answers(session: Session, rows: Sequence[ScheduleRun]) -> dict[str, RunAnswer]:
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
                    data=target.data,
                    ranking_id=target.ranking_id,
                    state=rankings.state(target.ranking_id) if target.ranking_id else None,
                    problem=Problem.of(target.problem),
                )
                for target in targets[run.id]
            ],
        )
        for run in rows
    }


@router.post("", status_code=status.HTTP_201_CREATED, responses=problem_responses(409))
def create_schedule(
    body: ScheduleCreate,
    response: Response,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> ScheduleAnswer:
    """Rank a zoo for one or many targets whenever a cron expression is due, and report what changed.

    Each moment is fired once, however many workers there are. Only what is missing or out of date is computed. A run
    does not begin while another of the same schedule is under way. If no worker lived when a run was due, the newest
    missed run is caught up with for a day, and the older ones are left out.
    """
    row = schedules.create(session, jobs, settings, caller, body)
    response.headers["Location"] = f"/v1/schedules/{row.id}"
    return schedule_answer(row)


@router.get("")
def list_schedules(
    session: ReadSessionDep,
    caller: ReaderDep,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    state: ScheduleState | None = None,
) -> Page[ScheduleAnswer]:
    """The schedules that you may see, newest first."""
    conditions = [] if state is None else [Schedule.state == state]
    rows = Schedules(session).page(caller, limit=limit, before=cursor, conditions=conditions)
    return page_of(rows, limit, schedule_answer)


@router.get("/{schedule}", responses=problem_responses(404))
def get_schedule(schedule: SchedulePath, session: ReadSessionDep, caller: ReaderDep) -> ScheduleAnswer:
    """One schedule, by id or name, with the times of its next runs."""
    return schedule_answer(schedules.get(session, caller, schedule))


@router.put("/{schedule}", responses=problem_responses(404, 409))
def replace_schedule(
    schedule: SchedulePath,
    body: ScheduleCreate,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> ScheduleAnswer:
    """Give a schedule another definition; its runs and its state stay."""
    return schedule_answer(schedules.replace(session, jobs, settings, caller, schedule, body))


@router.post("/{schedule}/pause", responses=problem_responses(404, 409))
def pause_schedule(schedule: SchedulePath, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> ScheduleAnswer:
    """Let no run start by the clock. What is due meanwhile is not caught up with."""
    return schedule_answer(schedules.pause(session, jobs, caller, schedule))


@router.post("/{schedule}/resume", responses=problem_responses(404, 409))
def resume_schedule(schedule: SchedulePath, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> ScheduleAnswer:
    """Let runs start again, from now on."""
    return schedule_answer(schedules.resume(session, jobs, caller, schedule))


@router.delete("/{schedule}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409))
def delete_schedule(schedule: SchedulePath, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> None:
    """Forget a schedule and its runs; their rankings stay. 409 while a run is under way."""
    schedules.delete(session, jobs, caller, schedule)


@router.post("/{schedule}/runs", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(404, 409))
def run_schedule(
    schedule: SchedulePath, response: Response, session: SessionDep, jobs: JobsDep, caller: SubmitterDep
) -> RunAnswer:
    """Run now, by hand; also while the schedule is paused. 409 while another run is under way."""
    run = schedules.run_now(session, jobs, caller, schedule)
    response.headers.update({"Location": f"/v1/schedules/{run.schedule_id}/runs/{run.id}", "Retry-After": "2"})
    return run_answers(session, [run])[run.id]


@router.get("/{schedule}/runs", responses=problem_responses(404))
def list_runs(
    schedule: SchedulePath,
    session: ReadSessionDep,
    caller: ReaderDep,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    state: RunState | None = None,
) -> Page[RunAnswer]:
    """The runs of a schedule, newest first; those that were skipped say why."""
    row = schedules.get(session, caller, schedule)
    rows = ScheduleRuns(session).page(row.id, limit=limit, before=cursor, state=state)
    shown = run_answers(session, rows)
    return page_of(rows, limit, lambda run: shown[run.id])


@router.get("/{schedule}/runs/{run}", responses=problem_responses(404))
def get_run(schedule: SchedulePath, run: RunPath, session: ReadSessionDep, caller: ReaderDep) -> RunAnswer:
    """One run, with the ranking of each target."""
    row = schedules.run(session, caller, schedule, run)
    return run_answers(session, [row])[row.id]


def report_of(session: Session, caller: ReaderDep, schedule: str, run: str) -> tuple[RunReport, bool]:
    """What a run found, and whether it has ended."""
    row = schedules.run(session, caller, schedule, run)
    if row.report is not None:
        return RunReport.model_validate(row.report), True
    return reports.compose(session, schedules.get(session, caller, schedule), row), row.state.is_final


@router.get(
    "/{schedule}/runs/{run}/report", response_model=RunReport, responses=FINAL_RESPONSES | problem_responses(404)
)
def get_report(
    schedule: SchedulePath, run: RunPath, request: Request, session: ReadSessionDep, caller: ReaderDep
) -> Response:
    """What the run changed for each target: who entered, left and moved, a new best, what was computed and reused."""
    report, final = report_of(session, caller, schedule, run)
    return represent(request, report, final=final)


@router.get(
    "/{schedule}/runs/{run}/report.csv",
    response_class=CsvResponse,
    responses=FINAL_RESPONSES | problem_responses(404),
)
def get_report_csv(
    schedule: SchedulePath, run: RunPath, request: Request, session: ReadSessionDep, caller: ReaderDep
) -> Response:
    """The same as CSV, one line a change."""
    report, final = report_of(session, caller, schedule, run)
    return represent_text(request, reports.as_csv(report), CsvResponse.media_type, final=final)


@router.get(
    "/{schedule}/runs/{run}/report.md",
    response_class=MarkdownResponse,
    responses=FINAL_RESPONSES | problem_responses(404),
)
def get_report_markdown(
    schedule: SchedulePath, run: RunPath, request: Request, session: ReadSessionDep, caller: ReaderDep
) -> Response:
    """The same as Markdown, for people."""
    report, final = report_of(session, caller, schedule, run)
    return represent_text(request, reports.as_markdown(report), MarkdownResponse.media_type, final=final)
