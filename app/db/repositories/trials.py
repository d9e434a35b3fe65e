"""Queries for trials."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.contracts.progress import Progress
from app.contracts.states import TrialState
from app.db.advice_tables import RankingTrial

LIVE_TRIALS = (TrialState.WAITING, TrialState.RUNNING)


class Trials:
    """Where each model of a ranking stands in its trial."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, ranking_id: str) -> Sequence[RankingTrial]:
        """In the order in which they are tried."""
        rows = select(RankingTrial).where(RankingTrial.ranking_id == ranking_id).order_by(RankingTrial.position)
        return self._session.scalars(rows).all()

    def get(self, ranking_id: str, model_id: str) -> RankingTrial | None:
        """One model's row."""
        return self._session.get(RankingTrial, (ranking_id, model_id))

    def start(self, ranking_id: str, model_ids: Sequence[str]) -> None:
        """Enter models, the most promising first; once only."""
        for position, model_id in enumerate(model_ids):
            self._session.add(RankingTrial(ranking_id=ranking_id, model_id=model_id, position=position, keys=[]))
        self._session.flush()

    def cut_off(self, ranking_id: str, reason: str) -> None:
        """End every row that has not ended."""
        self._session.execute(
            update(RankingTrial)
            .where(RankingTrial.ranking_id == ranking_id, RankingTrial.state.in_(LIVE_TRIALS))
            .values(state=TrialState.CUT_OFF, reason=reason, stage=None, seconds_left=None)
        )

    def change(self, ranking_id: str, model_id: str, **values: Any) -> None:
        """Change a row that has not ended."""
        self._session.execute(
            update(RankingTrial)
            .where(
                RankingTrial.ranking_id == ranking_id,
                RankingTrial.model_id == model_id,
                RankingTrial.state.in_(LIVE_TRIALS),
            )
            .values(**values)
        )

    def tell(self, ranking_id: str, model_id: str, progress: Progress) -> None:
        """Say how far the trial of a model is that has not ended."""
        told = progress.model_dump(include={"stage", "done", "total", "seconds_left"})
        self.change(ranking_id, model_id, **told)
