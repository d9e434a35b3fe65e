"""What repeats by itself: schedules with their runs, and the leaderboard of a target over all of its rankings."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.model_filters import ModelFilterDep
from app.api.pagination import CursorQuery
from app.contracts.caller import Caller
from app.contracts.listing import Listing
from app.contracts.states import RankingState
from app.errors import NotFound
from app.schemas.schedules import LeaderboardRow, ScheduleCreate
from app.services import datasets, leaderboards, overview, rankings, schedules, zoos
from app.web import charts
from app.web.forms import filled
from app.web.rendering import render
from app.web.route import GenuineForm, PageRoute

router = APIRouter(route_class=PageRoute, include_in_schema=False)

LISTED = 100
RUNS = 20
LINES = 8
"""Models whose rank over time is drawn."""

TextForm = Annotated[str, Form(max_length=300)]


@router.get("/schedules")
def list_schedules(
    request: Request, session: ReadSessionDep, caller: ReaderDep, cursor: CursorQuery = None
) -> Response:
    """The schedules that the reader may see, and how to make one."""
    page = schedules.page(session, caller, Listing(limit=LISTED, after=cursor))
    return render(
        request,
        "schedules.html",
        rows=page.items,
        last_runs=schedules.newest_runs(session, [row.id for row in page.items]),
        datasets=datasets.page(session, caller, Listing(limit=200)).items,
        zoos=zoos.page(session, caller, Listing(limit=200)).items,
        next_address=page.next_cursor and f"/schedules?cursor={page.next_cursor}",
    )


@router.post("/schedules", dependencies=[GenuineForm])
def create_schedule(
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
    name: TextForm,
    cron: TextForm,
    zoo: TextForm,
    time_zone: TextForm = "UTC",
    target: Annotated[list[str] | None, Form(max_length=100)] = None,
    max_samples: Annotated[str, Form(max_length=12)] = "",
) -> Response:
    """Make a schedule, and show it."""
    sample = {"max_samples": int(max_samples)} if max_samples.isdecimal() else None
    fields: dict[str, Any] = {"name": name, "cron": cron, "time_zone": time_zone, "zoo": zoo, "sample": sample}
    body: ScheduleCreate = filled(ScheduleCreate, **fields, targets=target or [])
    row = schedules.create(session, jobs, settings, caller, body)
    return RedirectResponse(f"/schedules/{row.id}", 303)


@router.get("/schedules/{schedule}")
def show_schedule(schedule: str, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """When it runs next, how its last runs went, and what the last one changed."""
    answer = schedules.show(session, caller, schedule)
    runs = schedules.runs(session, caller, schedule, Listing(limit=RUNS)).items
    ended = next((run for run in runs if run.state == "succeeded"), None)
    return render(
        request,
        "schedule.html",
        schedule=answer,
        runs=runs,
        report=schedules.report(session, caller, schedule, ended.id) if ended else None,
        may_change=may_change(caller, answer.owner),
    )


def may_change(caller: Caller, owner: str) -> bool:
    """Whether to offer the buttons that change what belongs to this owner."""
    return "submit" in caller.scopes and caller.owns(owner)


@router.post("/schedules/{schedule}/pause", dependencies=[GenuineForm])
def pause_schedule(schedule: str, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> Response:
    """Let no run start by the clock."""
    return RedirectResponse(f"/schedules/{schedules.pause(session, jobs, caller, schedule).id}", 303)


@router.post("/schedules/{schedule}/resume", dependencies=[GenuineForm])
def resume_schedule(schedule: str, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> Response:
    """Let runs start again."""
    return RedirectResponse(f"/schedules/{schedules.resume(session, jobs, caller, schedule).id}", 303)


@router.post("/schedules/{schedule}/runs", dependencies=[GenuineForm])
def run_schedule(schedule: str, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> Response:
    """Run it now."""
    run = schedules.run_now(session, jobs, caller, schedule)
    return RedirectResponse(f"/schedules/{run.schedule_id}", 303)


@router.post("/schedules/{schedule}/delete", dependencies=[GenuineForm])
def delete_schedule(schedule: str, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> Response:
    """Forget it; the rankings of its runs stay."""
    schedules.delete(session, jobs, caller, schedule)
    return RedirectResponse("/schedules", 303)


@router.get("/leaderboards")
def list_leaderboards(request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """The targets that were ranked for lately, each with its newest ranking."""
    page = rankings.page(session, caller, Listing(limit=200), state=RankingState.SUCCEEDED)
    newest = {row.target.id: row for row in reversed(page.items)}
    best = overview.best_models(session, [row.id for row in newest.values()])
    return render(request, "leaderboards.html", rankings=newest.values(), best=best)


@router.get("/leaderboards/{target}")
def show_leaderboard(
    target: str,
    request: Request,
    session: ReadSessionDep,
    caller: ReaderDep,
    wanted: ModelFilterDep,
    metric: Annotated[str, Query(max_length=64)] = "consensus",
) -> Response:
    """The best models for a target across its rankings, and how their ranks changed."""
    dataset = datasets.get(session, caller, target)
    try:
        board = leaderboards.board(session, caller, dataset.id, metric=metric, wanted=wanted, limit=200, offset=0)
    except NotFound:
        return render(request, "leaderboard.html", dataset=dataset, board=None, over_time=None)
    drawn = _over_time(session, caller, dataset.id, board.rows, metric)
    return render(request, "leaderboard.html", dataset=dataset, board=board, over_time=drawn)


def _over_time(
    session: Session, caller: Caller, target: str, rows: Sequence[LeaderboardRow], metric: str
) -> charts.Chart | None:
    """The ranks of the first few models from ranking to ranking."""
    places = []
    for row in rows[:LINES]:
        history = leaderboards.history(session, caller, target, row.model_id, metric=metric)
        places += [
            {"model": history.model, "at": point.finished_at.isoformat(), "rank": point.rank}
            for point in history.points
        ]
    return charts.over_time(places)
