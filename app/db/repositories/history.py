"""Queries for what models reached when they were fine-tuned."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.db.advice_tables import Evaluation, FineTunedAccuracy


class History:
    """Fine-tuned accuracies that one owner reported, or that were shared."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def remember(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Store accuracies; a newer one of the same owner, weights and target takes the place of the older."""
        for values in rows:
            known = self._session.scalars(
                select(FineTunedAccuracy).where(
                    FineTunedAccuracy.owner == values["owner"],
                    FineTunedAccuracy.weights_digest == values["weights_digest"],
                    FineTunedAccuracy.target_fingerprint == values["target_fingerprint"],
                )
            ).first()
            if known is None:
                self._session.add(FineTunedAccuracy(**values))
            else:
                for name, value in values.items():
                    setattr(known, name, value)
        self._session.flush()

    def others(self, owner: str, target_fingerprint: str) -> Sequence[FineTunedAccuracy]:
        """All accuracies that the owner may use, those of this target left out."""
        rows = select(FineTunedAccuracy).where(
            or_(FineTunedAccuracy.owner == owner, FineTunedAccuracy.shared),
            FineTunedAccuracy.target_fingerprint != target_fingerprint,
        )
        return self._session.scalars(rows.order_by(FineTunedAccuracy.id)).all()

    def of_ranking(self, ranking_id: str, owner: str | None) -> Sequence[Evaluation]:
        """Evaluations of one ranking, newest first; of all owners without ``owner``."""
        rows = select(Evaluation).where(Evaluation.ranking_id == ranking_id)
        if owner is not None:
            rows = rows.where(Evaluation.owner == owner)
        return self._session.scalars(rows.order_by(Evaluation.id.desc())).all()

    def evaluations(self, owner: str, without_target: str) -> Sequence[Evaluation]:
        """Evaluations that the owner may use to calibrate chances, those of this target left out; oldest first."""
        rows = select(Evaluation).where(
            or_(Evaluation.owner == owner, Evaluation.shared),
            Evaluation.target_fingerprint != without_target,
            Evaluation.remembered,
        )
        return self._session.scalars(rows.order_by(Evaluation.id)).all()
