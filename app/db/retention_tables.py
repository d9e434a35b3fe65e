"""The log of what retention removed."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.contracts.problems import ProblemDocument
from app.contracts.retention import Removal
from app.contracts.states import RunState
from app.db.columns import JsonOf
from app.db.tables import Base, _state, new_id, now


class RetentionRun(Base):
    """One look at all that is past its time. A dry run says what would be removed and removes nothing."""

    __tablename__ = "retention_runs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("ret"))
    dry_run: Mapped[bool]
    by_hand: Mapped[bool]
    state: Mapped[RunState] = mapped_column(_state(RunState), default=RunState.QUEUED)
    removals: Mapped[tuple[Removal, ...]] = mapped_column(JsonOf(tuple[Removal, ...]), default=())
    problem: Mapped[ProblemDocument | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]
