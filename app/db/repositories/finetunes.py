"""Queries for full fine-tunings."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select, update

from app.contracts.problems import ProblemDocument
from app.contracts.progress import Progress
from app.contracts.states import RankingState, TrialState
from app.db.fine_tuning_tables import FineTuning, FineTuningRun
from app.db.repositories.owned import OwnedRepository
from app.db.repositories.rankings import RANKINGS_BEFORE
from app.db.repositories.trials import LIVE_TRIALS
from app.db.tables import now


class FineTunings(OwnedRepository[FineTuning]):
    """Fine-tunings and their runs."""

    table = FineTuning

    def state(self, identifier: str) -> RankingState | None:
        """The present state alone."""
        return self.session.scalar(select(FineTuning.state).where(FineTuning.id == identifier))

    def move(self, identifier: str, state: RankingState, **values: Any) -> bool:
        """Set a new state if the present one may come before it; whether it was set."""
        stamp = "finished_at" if state.is_final else "started_at"
        moved = self.session.execute(
            update(FineTuning)
            .where(FineTuning.id == identifier, FineTuning.state.in_(RANKINGS_BEFORE[state]))
            .values(state=state, **{stamp: now()}, **values)
            .returning(FineTuning.id)
        ).first()
        return moved is not None

    def with_weights(self, owner: str) -> list[FineTuning]:
        """Those of an owner that kept fine-tuned weights."""
        kept = select(FineTuningRun.fine_tuning_id).where(FineTuningRun.weights.is_not(None))
        return list(self.session.scalars(select(FineTuning).where(FineTuning.owner == owner, FineTuning.id.in_(kept))))

    def runs(self, identifiers: Iterable[str]) -> dict[str, list[FineTuningRun]]:
        """Fine-tuning -> its runs in order."""
        wanted = list(identifiers)
        found: dict[str, list[FineTuningRun]] = {identifier: [] for identifier in wanted}
        rows = select(FineTuningRun).where(FineTuningRun.fine_tuning_id.in_(wanted)).order_by(FineTuningRun.number)
        for row in self.session.scalars(rows):
            found[row.fine_tuning_id].append(row)
        return found

    def run(self, identifier: str, number: int) -> FineTuningRun | None:
        """One run."""
        return self.session.get(FineTuningRun, (identifier, number))

    def start(self, rows: Sequence[FineTuningRun]) -> None:
        """Enter runs."""
        self.session.add_all(rows)
        self.session.flush()

    def change(self, identifier: str, number: int, **values: Any) -> None:
        """Change a run that has not ended."""
        self.session.execute(
            update(FineTuningRun)
            .where(
                FineTuningRun.fine_tuning_id == identifier,
                FineTuningRun.number == number,
                FineTuningRun.state.in_(LIVE_TRIALS),
            )
            .values(**values)
        )

    def tell(self, identifier: str, number: int, progress: Progress) -> None:
        """Say how far a run is that has not ended."""
        told = progress.model_dump(include={"stage", "done", "total", "seconds_left"})
        self.change(identifier, number, **told)

    def end_unfinished(self, identifier: str, *, reason: str | None, problem: ProblemDocument | None = None) -> None:
        """Close every run that has not ended: cut off for a reason, or failed with a problem."""
        state = TrialState.CUT_OFF if problem is None else TrialState.FAILED
        self.session.execute(
            update(FineTuningRun)
            .where(FineTuningRun.fine_tuning_id == identifier, FineTuningRun.state.in_(LIVE_TRIALS))
            .values(state=state, reason=reason, problem=problem, stage=None, seconds_left=None)
        )
