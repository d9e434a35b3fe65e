"""Leaderboards: the best models for a target over all rankings, and a model's rank over time."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.dependencies import ReaderDep, ReadSessionDep
from app.api.model_filters import ModelFilterDep
from app.api.pagination import LimitQuery
from app.api.paths import DatasetPath, ModelPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.schemas.schedules import HistoryAnswer, LeaderboardAnswer
from app.services import leaderboards

router = APIRouter(prefix="/v1/leaderboards", tags=["schedules"], route_class=Route)

MetricQuery = Annotated[
    str, Query(min_length=1, max_length=64, description="A metric of the rankings, or `consensus`: all of them.")
]


@router.get("/{target}", responses=problem_responses(404))
def get_leaderboard(
    target: DatasetPath,
    session: ReadSessionDep,
    caller: ReaderDep,
    wanted: ModelFilterDep,
    metric: MetricQuery = "consensus",
    limit: LimitQuery = 50,
    offset: Annotated[int, Query(ge=0, le=100_000, description="Rows to leave out at the top.")] = 0,
) -> LeaderboardAnswer:
    """The best models for a target, each by the latest ranking that holds it, among those that are what you want.

    Rankings count that asked the same as the newest one: the same images, sample, metrics and parameters. Limits come
    first: ranks are those among the models that are left. Metrics whose values mean something within one pool only are
    left out.
    """
    return leaderboards.board(session, caller, target, metric=metric, wanted=wanted, limit=limit, offset=offset)


@router.get("/{target}/history/{model:path}", responses=problem_responses(404))
def get_history(
    target: DatasetPath,
    model: ModelPath,
    session: ReadSessionDep,
    caller: ReaderDep,
    metric: MetricQuery = "consensus",
) -> HistoryAnswer:
    """A model's rank for a target over time, ranking by ranking, oldest first."""
    return leaderboards.history(session, caller, target, model, metric=metric)
