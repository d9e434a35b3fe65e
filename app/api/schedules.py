"""Schedules: rankings that a cron expression repeats, their runs and reports."""

from fastapi import APIRouter, Request, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.markdown import report_markdown
from app.api.pagination import ListingDep, PlaceDep
from app.api.paths import RunPath, SchedulePath
from app.api.problems import problem_responses
from app.api.representations import (
    FINAL_RESPONSES,
    CsvResponse,
    MarkdownResponse,
    represent,
    represent_csv,
    represent_text,
)
from app.api.route import Route
from app.api.tables import report_csv
from app.contracts.schedules import RunReport
from app.contracts.states import RunState, ScheduleState
from app.schemas.page import Page
from app.schemas.schedules import RunAnswer, ScheduleAnswer, ScheduleCreate
from app.services import schedules

router = APIRouter(prefix="/v1/schedules", tags=["schedules"], route_class=Route)


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
    schedule = schedules.create(session, jobs, settings, caller, body)
    response.headers["Location"] = f"/v1/schedules/{schedule.id}"
    return schedule


@router.get("")
def list_schedules(
    session: ReadSessionDep, caller: ReaderDep, listing: ListingDep, state: ScheduleState | None = None
) -> Page[ScheduleAnswer]:
    """The schedules that you may see, newest first."""
    return schedules.page(session, caller, listing, state=state)


@router.get("/{schedule}", responses=problem_responses(404))
def get_schedule(schedule: SchedulePath, session: ReadSessionDep, caller: ReaderDep) -> ScheduleAnswer:
    """One schedule, by id or name, with the times of its next runs."""
    return schedules.show(session, caller, schedule)


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
    return schedules.replace(session, jobs, settings, caller, schedule, body)


@router.post("/{schedule}/pause", responses=problem_responses(404, 409))
def pause_schedule(schedule: SchedulePath, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> ScheduleAnswer:
    """Let no run start by the clock. What is due meanwhile is not caught up with."""
    return schedules.pause(session, jobs, caller, schedule)


@router.post("/{schedule}/resume", responses=problem_responses(404, 409))
def resume_schedule(schedule: SchedulePath, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> ScheduleAnswer:
    """Let runs start again, from now on."""
    return schedules.resume(session, jobs, caller, schedule)


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
    return run


@router.get("/{schedule}/runs", responses=problem_responses(404))
def list_runs(
    schedule: SchedulePath,
    session: ReadSessionDep,
    caller: ReaderDep,
    place: PlaceDep,
    state: RunState | None = None,
) -> Page[RunAnswer]:
    """The runs of a schedule, newest first; those that were skipped say why."""
    return schedules.runs(session, caller, schedule, place, state=state)


@router.get("/{schedule}/runs/{run}", responses=problem_responses(404))
def get_run(schedule: SchedulePath, run: RunPath, session: ReadSessionDep, caller: ReaderDep) -> RunAnswer:
    """One run, with the ranking of each target."""
    return schedules.show_run(session, caller, schedule, run)


@router.get(
    "/{schedule}/runs/{run}/report", response_model=RunReport, responses=FINAL_RESPONSES | problem_responses(404)
)
def get_report(
    schedule: SchedulePath, run: RunPath, request: Request, session: ReadSessionDep, caller: ReaderDep
) -> Response:
    """What the run changed for each target: who entered, left and moved, a new best, what was computed and reused."""
    report = schedules.report(session, caller, schedule, run)
    return represent(request, report, final=report.state.is_final)


@router.get(
    "/{schedule}/runs/{run}/report.csv",
    response_class=CsvResponse,
    responses=FINAL_RESPONSES | problem_responses(404),
)
def get_report_csv(
    schedule: SchedulePath, run: RunPath, request: Request, session: ReadSessionDep, caller: ReaderDep
) -> Response:
    """The same as CSV, one line per change."""
    report = schedules.report(session, caller, schedule, run)
    return represent_csv(request, report_csv(report), final=report.state.is_final)


@router.get(
    "/{schedule}/runs/{run}/report.md",
    response_class=MarkdownResponse,
    responses=FINAL_RESPONSES | problem_responses(404),
)
def get_report_markdown(
    schedule: SchedulePath, run: RunPath, request: Request, session: ReadSessionDep, caller: ReaderDep
) -> Response:
    """The same as Markdown, for people."""
    report = schedules.report(session, caller, schedule, run)
    return represent_text(request, report_markdown(report), MarkdownResponse.media_type, final=report.state.is_final)
