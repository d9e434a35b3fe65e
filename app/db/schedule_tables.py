"""The tables of schedules: what they ask, what each run did, and who was placed where."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.contracts.problems import ProblemDocument
from app.contracts.schedules import RunReport, ScheduleRequest
from app.contracts.states import RunState, ScheduleState
from app.db.tables import Base, Owned, _state, new_id, now


class Schedule(Owned, Base):
    """A ranking that a cron expression repeats; `request` is what each run asks of each target.

    The engine's scheduler holds the active ones; `active_since` is when this definition began to hold, so that no
    moment before it is caught up with.
    """

    __tablename__ = "schedules"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("sch"))
    name: Mapped[str] = mapped_column(String(200))
    cron: Mapped[str] = mapped_column(String(200))
    time_zone: Mapped[str] = mapped_column(String(64))
    request: Mapped[ScheduleRequest]
    webhook_id: Mapped[str | None] = mapped_column(ForeignKey("webhooks.id", ondelete="SET NULL"), index=True)
    state: Mapped[ScheduleState] = mapped_column(_state(ScheduleState), default=ScheduleState.ACTIVE, index=True)
    problem: Mapped[ProblemDocument | None]
    active_since: Mapped[datetime] = mapped_column(default=now)
    created_at: Mapped[datetime] = mapped_column(default=now)


class ScheduleRun(Base):
    """One run: due at `scheduled_at`, by the clock or by hand; `job` is the engine's id of the work.

    `changed_models`: name of each model whose weights were replaced -> what was done about it.
    """

    __tablename__ = "schedule_runs"
    __table_args__ = (UniqueConstraint("schedule_id", "scheduled_at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("run"))
    schedule_id: Mapped[str] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"), index=True)
    scheduled_at: Mapped[datetime]
    by_hand: Mapped[bool] = mapped_column(default=False)
    job: Mapped[str | None] = mapped_column(String(300))
    state: Mapped[RunState] = mapped_column(_state(RunState), default=RunState.QUEUED, index=True)
    problem: Mapped[ProblemDocument | None]
    report: Mapped[RunReport | None]
    changed_models: Mapped[dict[str, str] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RunTarget(Base):
    """One target of one run: its ranking, or why there is none. `data` says how its images were found."""

    __tablename__ = "run_targets"

    run_id: Mapped[str] = mapped_column(ForeignKey("schedule_runs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(String(300))
    target_id: Mapped[str | None] = mapped_column(String(64), index=True)
    data: Mapped[str] = mapped_column(String(32), default="unchanged")
    ranking_id: Mapped[str | None] = mapped_column(ForeignKey("rankings.id", ondelete="SET NULL"), index=True)
    problem: Mapped[ProblemDocument | None]


class Placement(Base):
    """Who was placed where by one metric of one ranking, or by its consensus (`value`: minus the mean rank)."""

    __tablename__ = "placements"
    __table_args__ = (Index(None, "model_id", "metric"),)

    ranking_id: Mapped[str] = mapped_column(ForeignKey("rankings.id", ondelete="CASCADE"), primary_key=True)
    metric: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    rank: Mapped[int]
    value: Mapped[float]
