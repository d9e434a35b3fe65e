"""Rules of leaderboards: what may be compared over rankings."""

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.zoos import ModelFilter
from app.db.repositories.placements import CONSENSUS, Placements
from app.errors import Invalid, NotFound
from app.schemas.schedules import HistoryAnswer, HistoryPoint, LeaderboardAnswer, LeaderboardRow
from app.services import datasets, models
from estimators.catalog import METRICS


def board(
    session: Session, caller: Caller, target: str, *, metric: str, wanted: ModelFilter, limit: int, offset: int
) -> LeaderboardAnswer:
    """The best models for a target over all rankings that asked the same as the newest."""
    dataset = datasets.get(session, caller, target)
    placements = Placements(session)
    question = placements.newest_question(caller, dataset.id)
    if question is None:
        raise NotFound(f"no ranking of {dataset.name!r} has succeeded yet; POST /v1/rankings asks for one")
    metrics = [name for name in placements.metrics(caller, dataset.id, question) if _is_comparable(name)]
    if metric != CONSENSUS and metric not in metrics:
        known = ", ".join([CONSENSUS, *metrics])
        raise Invalid.at("/query/metric", f"this board cannot be ordered by {metric!r}; there are: {known}")
    rows = placements.board(
        caller,
        dataset.id,
        question,
        metric=metric,
        comparable_metrics=metrics,
        wanted=wanted,
        limit=limit,
        offset=offset,
    )
    return LeaderboardAnswer(
        target=dataset.name,
        target_id=dataset.id,
        metric=metric,
        ranking_count=placements.count(caller, dataset.id, question),
        metrics=metrics,
        rows=[
            LeaderboardRow(
                rank=row.rank,
                model_id=row.model.id,
                model=row.model.name,
                value=row.value,
                ranking_id=row.ranking.id,
                measured_at=row.ranking.finished_at or row.ranking.created_at,
                parameters=row.model.parameters,
                gmacs=row.model.gmacs,
                license=row.model.license,
                images_per_second=row.model.images_per_second,
                top1=row.model.top1,
            )
            for row in rows
        ],
    )


def _is_comparable(metric: str) -> bool:
    """Whether a value means the same in every ranking, not within one pool only."""
    return metric in METRICS and METRICS[metric].combine is None


def history(session: Session, caller: Caller, target: str, model: str, *, metric: str) -> HistoryAnswer:
    """Where a model stood in each ranking of a target."""
    dataset = datasets.get(session, caller, target)
    row = models.get(session, caller, model)
    points = Placements(session).history(caller, dataset.id, row.id, metric=metric)
    return HistoryAnswer(
        target_id=dataset.id,
        model_id=row.id,
        model=row.name,
        points=[
            HistoryPoint(
                ranking_id=ranking.id,
                finished_at=ranking.finished_at or ranking.created_at,
                metric=metric,
                rank=placement.rank,
                model_count=models_of,
                value=placement.value,
            )
            for placement, ranking, models_of in points
        ],
    )
