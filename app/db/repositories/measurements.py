"""Queries on what finished rankings measured: speeds, who came first, and what ran on a sample already."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.contracts.states import ModelRunState, RankingState
from app.db.tables import Ranking, RankingModel


class Measurements:
    """What this deployment knows from its own rankings."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def first_models(self, rankings: Iterable[str]) -> dict[str, str]:
        """Ranking -> the model that it puts first, of those that succeeded."""
        rows = self.session.execute(
            select(Ranking.id, Ranking.summary).where(
                Ranking.id.in_(list(rankings)), Ranking.state == RankingState.SUCCEEDED
            )
        )
        return {ranking: summary.advised_order[0] for ranking, summary in rows if summary and summary.advised_order}

    def speeds(self, models: Sequence[str]) -> dict[str, float]:
        """Model -> images a second of its last forward pass."""
        last = (
            select(RankingModel.model_id, func.max(RankingModel.ranking_id).label("ranking_id"))
            .where(RankingModel.model_id.in_(models), RankingModel.images_per_second.is_not(None))
            .group_by(RankingModel.model_id)
            .subquery()
        )
        rows = self.session.execute(
            select(RankingModel.model_id, RankingModel.images_per_second).join(
                last,
                (last.c.model_id == RankingModel.model_id) & (last.c.ranking_id == RankingModel.ranking_id),
            )
        )
        return {model: speed for model, speed in rows if speed is not None}

    def ran_on(self, models: Sequence[str], dataset: str, sample: Mapping[str, Any]) -> set[str]:
        """Those of the models that a ranking of the data set ran on the same sample."""
        rows = self.session.execute(
            select(RankingModel.model_id, Ranking.request)
            .join(Ranking, Ranking.id == RankingModel.ranking_id)
            .where(
                Ranking.target_id == dataset,
                RankingModel.model_id.in_(models),
                RankingModel.state == ModelRunState.SUCCEEDED,
            )
        )
        return {model for model, request in rows if request.sample.model_dump() == sample}
