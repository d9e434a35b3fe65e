"""Everything that waits for a job of the engine."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.contracts.problems import ProblemDocument
from app.contracts.states import FINAL_STATES, ModelRunState, RankingState, ResourceState, RunState
from app.db.fine_tuning_tables import FineTuning
from app.db.repositories.finetunes import FineTunings
from app.db.repositories.rankings import Rankings
from app.db.repositories.schedules import ScheduleRuns
from app.db.schedule_tables import ScheduleRun
from app.db.tables import Dataset, Model, Ranking, now

Waiting = type[Dataset] | type[Model] | type[Ranking] | type[ScheduleRun] | type[FineTuning]


def inspection_job(identifier: str) -> str:
    """The id of the job that inspects a data set or a model."""
    return f"inspect-{identifier}"


class Unfinished:
    """Rows that are not in a final state, with the workflows that are to bring them there."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def jobs(self) -> dict[str, tuple[Waiting, str]]:
        """Workflow id -> (table, id of the row)."""
        found: dict[str, tuple[Waiting, str]] = {}
        for table in (Dataset, Model):
            pending = self.session.scalars(select(table.id).where(table.state == ResourceState.PENDING))
            found.update({inspection_job(identifier): (table, identifier) for identifier in pending})
        for job in (Ranking, FineTuning):
            running = self.session.scalars(select(job.id).where(job.state.not_in(FINAL_STATES)))
            found.update({identifier: (job, identifier) for identifier in running})
        found.update({job: (ScheduleRun, identifier) for identifier, job in ScheduleRuns(self.session).open_jobs()})
        return found

    def close(self, table: Waiting, identifier: str, problem: ProblemDocument) -> None:
        """Fail the row if it has not ended by itself in between."""
        if table is Ranking:
            rankings = Rankings(self.session)
            rankings.end_unfinished_runs(identifier, ModelRunState.FAILED, problem)
            rankings.move(identifier, RankingState.FAILED, problem=problem)
            return
        if table is FineTuning:
            finetunes = FineTunings(self.session)
            finetunes.end_unfinished(identifier, reason=None, problem=problem)
            finetunes.move(identifier, RankingState.FAILED, problem=problem)
            return
        if table is ScheduleRun:
            ScheduleRuns(self.session).move(identifier, RunState.FAILED, problem=problem, finished_at=now())
            return
        row = self.session.get(table, identifier, with_for_update=True)
        if isinstance(row, (Dataset, Model)) and row.state is ResourceState.PENDING:
            row.state, row.problem, row.inspected_at = ResourceState.FAILED, problem, now()
