"""Queries on who was placed where: one ranking's table, a target's board, a model's history."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Subquery, and_, func, insert, or_, select
from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.states import RankingState
from app.contracts.zoos import ModelFilter
from app.db.repositories.model_filters import conditions
from app.db.schedule_tables import Placement
from app.db.tables import Model, Ranking

CONSENSUS = "consensus"
CHUNK = 5000


class BoardRow(NamedTuple):
    """A model on a board."""

    rank: int
    value: float
    model: Model
    ranking: Ranking


class Placements:
    """Ranks as rows."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def store(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a ranking's places."""
        for start in range(0, len(rows), CHUNK):
            self.session.execute(insert(Placement), [dict(row) for row in rows[start : start + CHUNK]])

    def places(self, ranking_id: str, metric: str = CONSENSUS) -> dict[str, int]:
        """Model -> rank."""
        rows = self.session.execute(
            select(Placement.model_id, Placement.rank).where(
                Placement.ranking_id == ranking_id, Placement.metric == metric
            )
        )
        return {model_id: rank for model_id, rank in rows}  # noqa: C416 - a result is no iterable of pairs to mypy

    def newest_question(self, caller: Caller, target_id: str) -> str | None:
        """What the last ranking of the target that succeeded asked."""
        return self.session.scalar(
            select(Ranking.question)
            .where(self._comparable(caller, target_id), Ranking.question.is_not(None))
            .order_by(Ranking.finished_at.desc(), Ranking.id.desc())
            .limit(1)
        )

    def count(self, caller: Caller, target_id: str, question: str) -> int:
        """Rankings that asked the same of the same images."""
        query = select(func.count()).where(self._comparable(caller, target_id), Ranking.question == question)
        return self.session.scalar(query) or 0

    def metrics(self, caller: Caller, target_id: str, question: str) -> list[str]:
        """The metrics by which such rankings placed models."""
        query = (
            select(Placement.metric)
            .join(Ranking, Ranking.id == Placement.ranking_id)
            .where(self._comparable(caller, target_id), Ranking.question == question, Placement.metric != CONSENSUS)
            .distinct()
            .order_by(Placement.metric)
        )
        return list(self.session.scalars(query))

    def board(
        self,
        caller: Caller,
        target_id: str,
        question: str,
        *,
        metric: str,
        comparable_metrics: Iterable[str],
        wanted: ModelFilter,
        limit: int,
        offset: int,
    ) -> list[BoardRow]:
        """Up to ``limit`` models, best first: each by its latest score, among those that are what is wanted.

        Args:
            metric: one of ``comparable_metrics``, or the consensus: the mean of the ranks by each of them.
            comparable_metrics: those whose values mean the same in every ranking.
        """
        latest = self._latest(caller, target_id, question, list(comparable_metrics), wanted)
        by_metric = select(
            latest.c.model_id,
            latest.c.ranking_id,
            latest.c.metric,
            latest.c.value,
            func.rank().over(partition_by=latest.c.metric, order_by=latest.c.value.desc()).label("place"),
        ).subquery()
        if metric == CONSENSUS:
            value = (-func.avg(by_metric.c.place * 1.0)).label("value")
            rows = select(by_metric.c.model_id, value, func.max(by_metric.c.ranking_id).label("ranking_id")).group_by(
                by_metric.c.model_id
            )
        else:
            rows = select(by_metric.c.model_id, by_metric.c.value, by_metric.c.ranking_id).where(
                by_metric.c.metric == metric
            )
        table = rows.subquery()
        query = (
            select(func.rank().over(order_by=table.c.value.desc()), table.c.value, Model, Ranking)
            .join(Model, Model.id == table.c.model_id)
            .join(Ranking, Ranking.id == table.c.ranking_id)
            .order_by(table.c.value.desc(), Model.name, Model.id)
            .offset(offset)
            .limit(limit)
        )
        return [BoardRow(rank, value, model, ranking) for rank, value, model, ranking in self.session.execute(query)]

    def history(
        self, caller: Caller, target_id: str, model_id: str, *, metric: str
    ) -> list[tuple[Placement, Ranking, int]]:
        """Where a model stood in each ranking of the target, oldest first, and of how many."""
        pool = (
            select(Placement.ranking_id, func.count().label("models"))
            .where(Placement.metric == metric)
            .group_by(Placement.ranking_id)
            .subquery()
        )
        query = (
            select(Placement, Ranking, pool.c.models)
            .join(Ranking, Ranking.id == Placement.ranking_id)
            .join(pool, pool.c.ranking_id == Placement.ranking_id)
            .where(self._comparable(caller, target_id), Placement.model_id == model_id, Placement.metric == metric)
            .order_by(Ranking.finished_at, Ranking.id)
        )
        return [(placement, ranking, models) for placement, ranking, models in self.session.execute(query)]

    def _comparable(self, caller: Caller, target_id: str) -> ColumnElement[bool]:
        seen = [] if caller.is_admin else [or_(Ranking.owner == caller.owner, Ranking.shared)]
        return and_(Ranking.target_id == target_id, Ranking.state == RankingState.SUCCEEDED, *seen)

    def _latest(
        self, caller: Caller, target_id: str, question: str, metrics: Sequence[str], wanted: ModelFilter
    ) -> Subquery:
        newest = func.row_number().over(
            partition_by=(Placement.model_id, Placement.metric),
            order_by=(Ranking.finished_at.desc(), Ranking.id.desc()),
        )
        numbered = (
            select(Placement.model_id, Placement.metric, Placement.value, Placement.ranking_id, newest.label("newest"))
            .join(Ranking, Ranking.id == Placement.ranking_id)
            .join(Model, Model.id == Placement.model_id)
            .where(
                self._comparable(caller, target_id),
                Ranking.question == question,
                Placement.metric.in_(metrics),
                *conditions(Model, wanted),
            )
            .subquery()
        )
        return select(numbered).where(numbered.c.newest == 1).subquery()
