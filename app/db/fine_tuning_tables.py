"""Full fine-tunings and their runs."""

from datetime import datetime

from sqlalchemy import Float, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.contracts.finetunes import FineTuningRequest, FineTuningSplit
from app.contracts.problems import ProblemDocument
from app.contracts.states import RankingState, RunPurpose, TrialState
from app.db.columns import JsonOf
from app.db.tables import Base, Owned, _state, new_id, now


class FineTuning(Owned, Base):
    """One job: models, a target, and how they are fine-tuned. It outlives its target and its models."""

    __tablename__ = "fine_tunings"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("ftn"))
    name: Mapped[str | None] = mapped_column(String(200))
    target_id: Mapped[str] = mapped_column(String(64), index=True)
    request: Mapped[FineTuningRequest] = mapped_column(JsonOf(FineTuningRequest))
    priority: Mapped[int]
    state: Mapped[RankingState] = mapped_column(_state(RankingState), default=RankingState.QUEUED, index=True)
    problem: Mapped[ProblemDocument | None]
    split: Mapped[FineTuningSplit | None] = mapped_column(JsonOf(FineTuningSplit))
    seconds_expected: Mapped[float | None]
    request_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class FineTuningRun(Base):
    """One model fine-tuned once: where it stands, what it reached, or why it failed.

    `weights` is the file below the folder of fine-tunings.
    """

    __tablename__ = "fine_tuning_runs"

    fine_tuning_id: Mapped[str] = mapped_column(ForeignKey("fine_tunings.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model_id: Mapped[str] = mapped_column(String(64))
    purpose: Mapped[RunPurpose] = mapped_column(_state(RunPurpose))
    rate_multiple: Mapped[float]
    seed: Mapped[int]
    state: Mapped[TrialState] = mapped_column(_state(TrialState), default=TrialState.WAITING)
    stage: Mapped[str | None] = mapped_column(String(32))
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    seconds_left: Mapped[float | None]
    accuracy: Mapped[float | None]
    nll: Mapped[float | None]
    probe_accuracy: Mapped[float | None]
    body_rate: Mapped[float | None]
    images: Mapped[int | None]
    side: Mapped[int | None]
    key: Mapped[str | None] = mapped_column(String(64))
    weights: Mapped[str | None] = mapped_column(String(200))
    seconds: Mapped[float | None] = mapped_column(Float(precision=53))
    warnings: Mapped[list[str] | None]
    reason: Mapped[str | None] = mapped_column(String(300))
    problem: Mapped[ProblemDocument | None]
