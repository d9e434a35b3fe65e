"""Queries on schedules and their runs."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import JSON, func, select, type_coerce, update
from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.listing import Listing
from app.contracts.states import RankingState, RunState, ScheduleState
from app.db.repositories.owned import OwnedRepository
from app.db.schedule_tables import RunTarget, Schedule, ScheduleRun
from app.db.tables import ApiKey, Ranking

OPEN_RUNS = (RunState.QUEUED, RunState.RUNNING)


class Schedules(OwnedRepository[Schedule]):
    """Schedules by id and name."""

    table = Schedule

    def active(self) -> list[Schedule]:
        """All that the engine has to hold."""
        return list(self.session.scalars(select(Schedule).where(Schedule.state == ScheduleState.ACTIVE)))

    def of_zoo(self, caller: Caller, zoo_id: str) -> list[Schedule]:
        """Those that rank this zoo, newest first."""
        query = self.visible(caller).where(type_coerce(Schedule.request, JSON)["zoo"]["id"].as_string() == zoo_id)
        return list(self.session.scalars(query.order_by(Schedule.id.desc())))

    def of_revoked_keys(self) -> list[Schedule]:
        """Those that have to stop: their key was revoked."""
        query = (
            select(Schedule)
            .join(ApiKey, ApiKey.id == Schedule.owner)
            .where(ApiKey.revoked_at.is_not(None), Schedule.state != ScheduleState.STOPPED)
        )
        return list(self.session.scalars(query))


class ScheduleRuns:
    """What schedules did."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, run: ScheduleRun) -> ScheduleRun:
        """Store a new run."""
        self.session.add(run)
        self.session.flush()
        return run

    def get(self, run_id: str) -> ScheduleRun | None:
        """The run with this id."""
        return self.session.get(ScheduleRun, run_id)

    def at(self, schedule_id: str, scheduled_at: datetime) -> ScheduleRun | None:
        """The run that was due at this moment."""
        return self.session.scalar(
            select(ScheduleRun).where(ScheduleRun.schedule_id == schedule_id, ScheduleRun.scheduled_at == scheduled_at)
        )

    def latest_due(self, schedule_id: str) -> datetime | None:
        """When the last run by the clock was due."""
        return self.session.scalar(
            select(ScheduleRun.scheduled_at)
            .where(ScheduleRun.schedule_id == schedule_id, ScheduleRun.by_hand.is_(False))
            .order_by(ScheduleRun.scheduled_at.desc())
            .limit(1)
        )

    def open_run(self, schedule_id: str, *, besides: str | None = None) -> ScheduleRun | None:
        """A run of the schedule that has not ended."""
        query = select(ScheduleRun).where(ScheduleRun.schedule_id == schedule_id, ScheduleRun.state.in_(OPEN_RUNS))
        if besides is not None:
            query = query.where(ScheduleRun.id != besides)
        return self.session.scalars(query.order_by(ScheduleRun.id).limit(1)).first()

    def open_jobs(self) -> list[tuple[str, str]]:
        """Runs that have not ended, with the engine's ids of their jobs."""
        rows = self.session.execute(
            select(ScheduleRun.id, ScheduleRun.job).where(
                ScheduleRun.state.in_(OPEN_RUNS), ScheduleRun.job.is_not(None)
            )
        )
        return [(identifier, job) for identifier, job in rows if job is not None]

    def page(self, schedule_id: str, listing: Listing, *, state: RunState | None = None) -> list[ScheduleRun]:
        """Up to ``limit + 1`` runs of a schedule, newest first, older than the id ``after``."""
        query = select(ScheduleRun).where(ScheduleRun.schedule_id == schedule_id)
        if listing.after is not None:
            query = query.where(ScheduleRun.id < listing.after)
        if state is not None:
            query = query.where(ScheduleRun.state == state)
        return list(self.session.scalars(query.order_by(ScheduleRun.id.desc()).limit(listing.limit + 1)))

    def newest(self, schedule_ids: Iterable[str]) -> dict[str, ScheduleRun]:
        """Schedule -> its newest run, of those that have run."""
        newest = (
            select(func.max(ScheduleRun.id))
            .where(ScheduleRun.schedule_id.in_(list(schedule_ids)))
            .group_by(ScheduleRun.schedule_id)
        )
        rows = self.session.scalars(select(ScheduleRun).where(ScheduleRun.id.in_(newest)))
        return {run.schedule_id: run for run in rows}

    def move(self, run_id: str, state: RunState, **values: object) -> bool:
        """Set a new state unless the run has ended; whether it was set."""
        moved = self.session.execute(
            update(ScheduleRun)
            .where(ScheduleRun.id == run_id, ScheduleRun.state.in_(OPEN_RUNS))
            .values(state=state, **values)
            .returning(ScheduleRun.id)
        ).first()
        return moved is not None

    def targets(self, run_ids: Sequence[str]) -> dict[str, list[RunTarget]]:
        """Run -> its targets, in order."""
        found: dict[str, list[RunTarget]] = {identifier: [] for identifier in run_ids}
        rows = self.session.scalars(
            select(RunTarget).where(RunTarget.run_id.in_(run_ids)).order_by(RunTarget.run_id, RunTarget.position)
        )
        for row in rows:
            found[row.run_id].append(row)
        return found

    def previous_ranking(self, run: ScheduleRun, target_id: str) -> Ranking | None:
        """The last ranking of this target by an earlier run of the same schedule that succeeded."""
        query = (
            select(Ranking)
            .join(RunTarget, RunTarget.ranking_id == Ranking.id)
            .join(ScheduleRun, ScheduleRun.id == RunTarget.run_id)
            .where(
                ScheduleRun.schedule_id == run.schedule_id,
                ScheduleRun.id < run.id,
                RunTarget.target_id == target_id,
                Ranking.state == RankingState.SUCCEEDED,
            )
            .order_by(Ranking.id.desc())
            .limit(1)
        )
        return self.session.scalars(query).first()
