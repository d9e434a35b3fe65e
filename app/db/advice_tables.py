"""Trials within rankings, evaluations of rankings, and what models reached when they were fine-tuned."""

from datetime import datetime

from sqlalchemy import Float, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.contracts.base import JsonObject
from app.contracts.problems import ProblemDocument
from app.contracts.states import TrialState
from app.db.tables import Base, Owned, _state, new_id, now


class RankingTrial(Base):
    """One model's trial: where it stands, what it has predicted so far, and why it ended."""

    __tablename__ = "ranking_trials"

    ranking_id: Mapped[str] = mapped_column(ForeignKey("rankings.id", ondelete="CASCADE"), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True, index=True)
    position: Mapped[int]
    state: Mapped[TrialState] = mapped_column(_state(TrialState), default=TrialState.WAITING)
    stage: Mapped[str | None] = mapped_column(String(32))
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    seconds_left: Mapped[float | None]
    folds_done: Mapped[int] = mapped_column(default=0)
    images: Mapped[int] = mapped_column(default=0)
    nll: Mapped[float | None]
    accuracy: Mapped[float | None]
    side: Mapped[int | None]
    keys: Mapped[list[str]]
    seconds: Mapped[float] = mapped_column(Float(precision=53), default=0.0)
    warnings: Mapped[list[str] | None]
    reason: Mapped[str | None] = mapped_column(String(300))
    problem: Mapped[ProblemDocument | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Evaluation(Owned, Base):
    """Fine-tuned accuracies of a ranking's models, and what they say of its scores. It outlives the ranking.

    `rungs` are those that the recommendation rested on; scores and accuracies are by model.
    """

    __tablename__ = "evaluations"
    __table_args__ = (Index(None, "target_fingerprint"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("evl"))
    ranking_id: Mapped[str] = mapped_column(String(64), index=True)
    target_fingerprint: Mapped[str] = mapped_column(String(64))
    remembered: Mapped[bool]
    rungs: Mapped[list[str]]
    advised_scores: Mapped[dict[str, float]]
    accuracies: Mapped[dict[str, float]]
    results: Mapped[JsonObject]
    created_at: Mapped[datetime] = mapped_column(default=now)


class FineTunedAccuracy(Owned, Base):
    """What one model reached on one target; found again by content, whatever either is called."""

    __tablename__ = "fine_tuned_accuracies"
    __table_args__ = (UniqueConstraint("owner", "weights_digest", "target_fingerprint"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("acc"))
    target_fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    target: Mapped[str] = mapped_column(String(200))
    weights_digest: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(300))
    accuracy: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=now)
