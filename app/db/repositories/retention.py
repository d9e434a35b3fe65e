"""Queries for what is past its time, for what is needed nevertheless, and on the log of what was removed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, Text, and_, cast, delete, false, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import InstrumentedAttribute

from app.contracts.listing import Listing
from app.contracts.states import FINAL_STATES, DeliveryState, RankingState
from app.db.advice_tables import RankingTrial
from app.db.fine_tuning_tables import FineTuning, FineTuningRun
from app.db.repositories.schedules import OPEN_RUNS
from app.db.retention_tables import RetentionRun
from app.db.schedule_tables import Placement, RunTarget, ScheduleRun
from app.db.tables import Base, Ranking, RankingEvent, RankingModel, RankingScore, Score, now
from app.db.webhook_tables import Delivery, DeliveryAttempt

# What goes with a row: (table, column that names the row).
OF_RANKING = (
    (Ranking, "id"),
    (RankingModel, "ranking_id"),
    (RankingScore, "ranking_id"),
    (RankingEvent, "ranking_id"),
    (RankingTrial, "ranking_id"),
    (Placement, "ranking_id"),
)
OF_FINE_TUNING = ((FineTuning, "id"), (FineTuningRun, "fine_tuning_id"))
OF_RUN = ((ScheduleRun, "id"), (RunTarget, "run_id"))
OF_DELIVERY = ((Delivery, "id"), (DeliveryAttempt, "delivery_id"))
OF_SCORE = ((Score, "id"),)
CHUNK = 500


class Expired:
    """What is past its time: older than ``before``, or not among the ``newest`` of its group; the oldest first."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def rankings(self, *, before: datetime | None, newest: int | None) -> list[str]:
        """Of each owner and target."""
        group = (Ranking.owner, Ranking.target_id)
        ended = Ranking.state.in_(FINAL_STATES)
        return self._find(Ranking.id, Ranking.finished_at, group, ended, before=before, newest=newest)

    def fine_tunings(self, *, before: datetime | None, newest: int | None) -> list[str]:
        """Of each owner and target."""
        group = (FineTuning.owner, FineTuning.target_id)
        ended = FineTuning.state.in_(FINAL_STATES)
        return self._find(FineTuning.id, FineTuning.finished_at, group, ended, before=before, newest=newest)

    def runs(self, *, before: datetime | None, newest: int | None) -> list[str]:
        """Of each schedule."""
        ended = ScheduleRun.state.not_in(OPEN_RUNS)
        moment = func.coalesce(ScheduleRun.finished_at, ScheduleRun.created_at)
        return self._find(ScheduleRun.id, moment, (ScheduleRun.schedule_id,), ended, before=before, newest=newest)

    def deliveries(self, *, before: datetime | None, newest: int | None) -> list[str]:
        """Of each webhook."""
        ended = Delivery.state != DeliveryState.PENDING
        moment = func.coalesce(Delivery.ended_at, Delivery.created_at)
        return self._find(Delivery.id, moment, (Delivery.webhook_id,), ended, before=before, newest=newest)

    def scores(self, *, before: datetime | None) -> list[str]:
        """Scores that no ranking shows any more."""
        if before is None:
            return []
        shown = select(RankingScore.score_id).where(RankingScore.score_id == Score.id).exists()
        query = select(Score.id).where(Score.created_at < before, ~shown).order_by(Score.id)
        return list(self.session.scalars(query))

    def _find(
        self,
        identifier: InstrumentedAttribute[str],
        moment: Any,
        group: Sequence[InstrumentedAttribute[str]],
        ended: ColumnElement[bool],
        *,
        before: datetime | None,
        newest: int | None,
    ) -> list[str]:
        place = func.row_number().over(partition_by=group, order_by=(moment.desc(), identifier.desc()))
        rows = select(identifier.label("id"), moment.label("moment"), place.label("place")).where(ended).subquery()
        past = or_(
            rows.c.moment < before if before is not None else false(),
            rows.c.place > newest if newest is not None else false(),
        )
        return list(self.session.scalars(select(rows.c.id).where(past).order_by(rows.c.moment, rows.c.id)))

    def delete(self, table: type[Base], identifiers: Sequence[str]) -> int:
        """Remove rows and all that goes with them; how many of these there were."""
        key: Any = table.__table__.c.id
        gone = self.session.execute(delete(table).where(key.in_(identifiers)).returning(key)).all()
        return len(gone)

    def characters(self, tables: Iterable[tuple[type[Base], str]], identifiers: Sequence[str]) -> int:
        """What the rows with these ids hold in all of these tables, written as text."""
        total = 0
        for mapped, name in tables:
            table: Table = mapped.__table__  # type: ignore[assignment]
            length = sum((func.coalesce(func.length(cast(column, Text)), 0) for column in table.c), start=0)
            for start in range(0, len(identifiers), CHUNK):
                few = table.c[name].in_(identifiers[start : start + CHUNK])
                total += int(self.session.scalar(select(func.coalesce(func.sum(length), 0)).where(few)) or 0)
        return total


class Needed:
    """What stays although it is past its time, since something that is not refers to it."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def rankings(self) -> set[str]:
        """Those that a board shows, those that the next report compares with, and those of runs under way."""
        return self._on_boards() | self.compared() | self._under_way()

    def _on_boards(self) -> set[str]:
        """Each model's latest place, by each metric, among the rankings that asked what the newest of a target asked.

        What a caller sees are the rankings of one owner, with those that others share. So the latest are taken of each
        owner's shared and unshared rankings apart: whatever a board is made of is among them.
        """
        whose = (Ranking.owner, Ranking.shared)
        latest_first = (Ranking.finished_at.desc(), Ranking.id.desc())
        asked = and_(Ranking.state == RankingState.SUCCEEDED, Ranking.question.is_not(None))
        place = func.row_number().over(partition_by=(Ranking.target_id, *whose), order_by=latest_first)
        rows = select(Ranking.id, Ranking.target_id, Ranking.question, place.label("place")).where(asked).subquery()
        newest = select(rows).where(rows.c.place == 1).subquery()
        questions = select(newest.c.target_id, newest.c.question).distinct().subquery()
        place = func.row_number().over(
            partition_by=(Ranking.target_id, Ranking.question, *whose, Placement.model_id, Placement.metric),
            order_by=latest_first,
        )
        places = (
            select(Placement.ranking_id, place.label("place"))
            .join(Ranking, Ranking.id == Placement.ranking_id)
            .join(
                questions,
                tuple_(questions.c.target_id, questions.c.question) == tuple_(Ranking.target_id, Ranking.question),
            )
            .where(asked)
            .subquery()
        )
        shown = select(places.c.ranking_id).where(places.c.place == 1).distinct()
        return {*self.session.scalars(select(newest.c.id)), *self.session.scalars(shown)}

    def compared(self) -> set[str]:
        """For each schedule and target, the last ranking that succeeded: the next report compares with it."""
        return {ranking for _, ranking in self._last_of_schedules()}

    def _last_of_schedules(self) -> list[tuple[str, str]]:
        """(run, ranking) of each schedule and target."""
        place = func.row_number().over(
            partition_by=(ScheduleRun.schedule_id, RunTarget.target_id), order_by=Ranking.id.desc()
        )
        rows = (
            select(RunTarget.run_id, RunTarget.ranking_id, place.label("place"))
            .join(ScheduleRun, ScheduleRun.id == RunTarget.run_id)
            .join(Ranking, Ranking.id == RunTarget.ranking_id)
            .where(Ranking.state == RankingState.SUCCEEDED)
            .subquery()
        )
        found = self.session.execute(select(rows.c.run_id, rows.c.ranking_id).where(rows.c.place == 1))
        return [(run, ranking) for run, ranking in found]

    def _under_way(self) -> set[str]:
        query = (
            select(RunTarget.ranking_id)
            .join(ScheduleRun, ScheduleRun.id == RunTarget.run_id)
            .where(ScheduleRun.state.in_(OPEN_RUNS), RunTarget.ranking_id.is_not(None))
        )
        return {ranking for ranking in self.session.scalars(query) if ranking is not None}

    def runs(self) -> set[str]:
        """Those that name the rankings of `compared`, and each schedule's last one, also the last by the clock.

        The last by the clock says which moments were caught up with.
        """
        place = func.row_number().over(
            partition_by=(ScheduleRun.schedule_id, ScheduleRun.by_hand), order_by=ScheduleRun.scheduled_at.desc()
        )
        rows = select(ScheduleRun.id, place.label("place")).subquery()
        last = self.session.scalars(select(rows.c.id).where(rows.c.place == 1))
        return {*last, *(run for run, _ in self._last_of_schedules())}

    def evidence(self) -> set[str]:
        """Keys of what rankings under way use, and of what the next runs of schedules will use again."""
        running = select(Ranking.id).where(Ranking.state.not_in(FINAL_STATES))
        users = sorted({*self.session.scalars(running), *self.compared()})
        keys: set[str] = set()
        for start in range(0, len(users), CHUNK):
            few = users[start : start + CHUNK]
            for evidence in self.session.scalars(select(RankingModel.evidence).where(RankingModel.ranking_id.in_(few))):
                keys.update(evidence.all if evidence is not None else ())
            for predictions in self.session.scalars(select(RankingTrial.keys).where(RankingTrial.ranking_id.in_(few))):
                keys.update(predictions)
        return keys


class RetentionRuns:
    """The log of what was removed."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, run: RetentionRun) -> RetentionRun:
        """Store a new entry."""
        self.session.add(run)
        self.session.flush()
        return run

    def claim(self, identifier: str) -> bool:
        """Store the entry of one interval; whether nobody else did."""
        insert = sqlite_insert if self.session.get_bind().dialect.name == "sqlite" else postgresql_insert
        entry = {"id": identifier, "dry_run": False, "by_hand": False, "created_at": now()}
        statement = insert(RetentionRun).values(entry).on_conflict_do_nothing().returning(RetentionRun.id)
        return self.session.execute(statement).first() is not None

    def get(self, identifier: str) -> RetentionRun | None:
        """The entry with this id."""
        return self.session.get(RetentionRun, identifier)

    def page(self, listing: Listing) -> list[RetentionRun]:
        """Up to ``limit + 1`` entries, newest first, older than the id ``after``."""
        query = select(RetentionRun)
        if listing.after is not None:
            query = query.where(RetentionRun.id < listing.after)
        return list(self.session.scalars(query.order_by(RetentionRun.id.desc()).limit(listing.limit + 1)))

    def keep_newest(self, number: int) -> None:
        """Remove all but this many."""
        kept = select(RetentionRun.id).order_by(RetentionRun.id.desc()).limit(number).scalar_subquery()
        self.session.execute(delete(RetentionRun).where(RetentionRun.id.not_in(kept)))
