"""Queries on rankings: the job, its models, its scores, its events."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import defer

from app.contracts.events import EndEvent, Event, ModelEvent, StateEvent
from app.contracts.problems import ProblemDocument
from app.contracts.rankings import Counters
from app.contracts.scores import ScoreKey
from app.contracts.states import FINAL_STATES, ModelRunState, RankingState
from app.db.repositories.owned import OwnedRepository
from app.db.tables import (
    Dataset,
    Ranking,
    RankingEvent,
    RankingModel,
    RankingScore,
    Score,
    SubmissionCounter,
    new_id,
    now,
)

UNFINISHED_RUNS = (ModelRunState.QUEUED, ModelRunState.EXTRACTING, ModelRunState.SCORING)
# A model's states only move forward: state -> those that it may follow. What is known already needs no work.
RUNS_BEFORE = {
    ModelRunState.QUEUED: (),
    ModelRunState.EXTRACTING: (ModelRunState.QUEUED, ModelRunState.EXTRACTING),
    ModelRunState.SCORING: UNFINISHED_RUNS,
    ModelRunState.SUCCEEDED: (ModelRunState.QUEUED, ModelRunState.SCORING),
    ModelRunState.FAILED: UNFINISHED_RUNS,
    ModelRunState.CANCELLED: UNFINISHED_RUNS,
}
RANKINGS_BEFORE = {
    RankingState.QUEUED: (),
    RankingState.RUNNING: (RankingState.QUEUED, RankingState.RUNNING),
    RankingState.SUCCEEDED: (RankingState.RUNNING,),
    RankingState.FAILED: (RankingState.QUEUED, RankingState.RUNNING),
    RankingState.CANCELLED: (RankingState.QUEUED, RankingState.RUNNING),
}
# Counters of a ranking that are sums over its models.
COUNTED = ("images_decoded", "models_loaded", "evidence_computed", "scores_computed")
LOOKUP_CHUNK = 300
EVENTS_CHUNK = 100


class Rankings(OwnedRepository[Ranking]):
    """Rankings and what hangs on them."""

    table = Ranking

    def conditions(self, *, state: RankingState | None, target: str | None) -> list[ColumnElement[bool]]:
        """Filters of the list."""
        conditions: list[ColumnElement[bool]] = []
        if state is not None:
            conditions.append(Ranking.state == state)
        if target is not None:
            named = select(Dataset.id).where(or_(Dataset.id == target, Dataset.name == target))
            conditions.append(Ranking.target_id.in_(named))
        return conditions

    def open_of(self, dataset_id: str) -> list[str]:
        """Ids of rankings of this target that have not ended."""
        return list(
            self.session.scalars(
                select(Ranking.id).where(Ranking.target_id == dataset_id, Ranking.state.not_in(FINAL_STATES))
            )
        )

    def next_submission(self) -> int:
        """More than any before. On PostgreSQL no submission waits for another, so one that fails leaves a gap."""
        if self.session.get_bind().dialect.name == "postgresql":
            return int(self.session.execute(select(func.nextval("submission_numbers"))).scalar_one())
        return self.session.execute(
            update(SubmissionCounter).values(last=SubmissionCounter.last + 1).returning(SubmissionCounter.last)
        ).scalar_one()

    def models(self, ranking_id: str) -> list[RankingModel]:
        """The models of a ranking, in the order of the request."""
        return list(
            self.session.scalars(
                select(RankingModel).where(RankingModel.ranking_id == ranking_id).order_by(RankingModel.position)
            )
        )

    def times(self, ranking_ids: Sequence[str]) -> list[tuple[str, ModelRunState, dict[str, float] | None]]:
        """(ranking, state, seconds by stage) of every model of these rankings."""
        if not ranking_ids:
            return []
        rows = self.session.execute(
            select(RankingModel.ranking_id, RankingModel.state, RankingModel.seconds).where(
                RankingModel.ranking_id.in_(ranking_ids)
            )
        )
        return [(ranking_id, state, seconds) for ranking_id, state, seconds in rows]

    def model_counts(self, ranking_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Ranking -> state -> number of models."""
        rows = self.session.execute(
            select(RankingModel.ranking_id, RankingModel.state, func.count())
            .where(RankingModel.ranking_id.in_(ranking_ids))
            .group_by(RankingModel.ranking_id, RankingModel.state)
        )
        counts: dict[str, dict[str, int]] = {identifier: {} for identifier in ranking_ids}
        for identifier, state, number in rows:
            counts[identifier][state.value] = number
        return counts

    def state(self, ranking_id: str) -> RankingState | None:
        """The present state alone."""
        return self.session.scalar(select(Ranking.state).where(Ranking.id == ranking_id))

    def unfinished_counts(self) -> dict[RankingState, int]:
        """State -> number of rankings, of the states in which a ranking has not ended."""
        rows = self.session.execute(
            select(Ranking.state, func.count()).where(Ranking.state.not_in(FINAL_STATES)).group_by(Ranking.state)
        )
        found = {state: number for state, number in rows}  # noqa: C416 - rows are no pairs to the type checker
        return {state: found.get(state, 0) for state in RankingState if not state.is_final}

    def running_beside(self, ranking_id: str) -> int:
        """How many rankings of the same owner are under way, this one included."""
        owner = select(Ranking.owner).where(Ranking.id == ranking_id).scalar_subquery()
        number = self.session.scalar(
            select(func.count())
            .select_from(Ranking)
            .where(Ranking.owner == owner, Ranking.state == RankingState.RUNNING)
        )
        return number or 0

    def move(self, ranking_id: str, state: RankingState, **values: Any) -> bool:
        """Set a new state if the present one may come before it; whether it was set.

        A ranking does not succeed while one of its models has not ended.
        """
        moment = now()
        conditions = [Ranking.id == ranking_id, Ranking.state.in_(RANKINGS_BEFORE[state])]
        if state is RankingState.SUCCEEDED:
            unfinished = exists().where(RankingModel.ranking_id == ranking_id, RankingModel.state.in_(UNFINISHED_RUNS))
            conditions.append(~unfinished)
        stamps = (
            {"finished_at": moment} if state.is_final else {"started_at": func.coalesce(Ranking.started_at, moment)}
        )
        moved = self.session.execute(
            update(Ranking).where(*conditions).values(state=state, **stamps, **values).returning(Ranking.counters)
        ).first()
        if moved is None:
            return False
        if state.is_final:
            counters = (moved.counters or Counters()).model_copy(update=self._sums([ranking_id])[ranking_id])
            self.session.execute(update(Ranking).where(Ranking.id == ranking_id).values(counters=counters))
        changed = EndEvent if state.is_final else StateEvent
        self.record_event(changed(ranking_id=ranking_id, state=state.value))
        return True

    def counters(self, rankings: Sequence[Ranking]) -> dict[str, Counters]:
        """Ranking -> what was computed and what was used again; of a ranking that runs, as far as it is."""
        running = [ranking.id for ranking in rankings if not ranking.state.is_final]
        sums = self._sums(running) if running else {}
        return {
            ranking.id: (ranking.counters or Counters()).model_copy(update=sums.get(ranking.id)) for ranking in rankings
        }

    def _sums(self, ranking_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        columns = [func.coalesce(func.sum(getattr(RankingModel, name)), 0) for name in COUNTED]
        rows = self.session.execute(
            select(RankingModel.ranking_id, *columns)
            .where(RankingModel.ranking_id.in_(ranking_ids))
            .group_by(RankingModel.ranking_id)
        )
        found: dict[str, dict[str, int]] = {identifier: dict.fromkeys(COUNTED, 0) for identifier in ranking_ids}
        for identifier, *values in rows:
            found[identifier] = {name: int(value) for name, value in zip(COUNTED, values, strict=True)}
        return found

    def update_run(
        self, ranking_id: str, model_id: str, *, state: ModelRunState | None = None, tell: bool = True, **values: Any
    ) -> bool:
        """Set columns of the row of a model that has not ended, and tell those who follow.

        Returns:
            Whether anything was set: not if the model has ended, or its state is beyond ``state``.
        """
        if state is not None:
            values["state"] = state
        changed = self.session.execute(
            update(RankingModel)
            .where(
                RankingModel.ranking_id == ranking_id,
                RankingModel.model_id == model_id,
                RankingModel.state.in_(UNFINISHED_RUNS if state is None else RUNS_BEFORE[state]),
            )
            .values(**values)
            .returning(RankingModel.state, RankingModel.stage, RankingModel.done, RankingModel.total)
        ).first()
        if changed is not None and tell:
            present, stage, done, total = changed
            self.record_event(
                ModelEvent(
                    ranking_id=ranking_id, model_id=model_id, state=present.value, stage=stage, done=done, total=total
                )
            )
        return changed is not None

    def finish_runs(self, ranking_id: str, model_ids: Iterable[str]) -> None:
        """Say that these models need no work because all of their scores are known, without an event for each."""
        wanted = sorted(model_ids)
        for start in range(0, len(wanted), LOOKUP_CHUNK):
            self.session.execute(
                update(RankingModel)
                .where(
                    RankingModel.ranking_id == ranking_id,
                    RankingModel.model_id.in_(wanted[start : start + LOOKUP_CHUNK]),
                    RankingModel.state.in_(RUNS_BEFORE[ModelRunState.SUCCEEDED]),
                )
                .values(state=ModelRunState.SUCCEEDED)
            )

    def extract_again(self, ranking_id: str, model_id: str) -> None:
        """Take a model back from scoring since its evidence is gone: the one move that does not go forward."""
        self.session.execute(
            update(RankingModel)
            .where(
                RankingModel.ranking_id == ranking_id,
                RankingModel.model_id == model_id,
                RankingModel.state == ModelRunState.SCORING,
            )
            .values(state=ModelRunState.EXTRACTING, stage="waiting")
        )

    def run(self, ranking_id: str, model_id: str) -> RankingModel | None:
        """One model's row, as it is in the database."""
        return self.session.get(RankingModel, (ranking_id, model_id), populate_existing=True)

    def end_unfinished_runs(self, ranking_id: str, state: ModelRunState, problem: ProblemDocument | None) -> None:
        """Close the rows of all models that have not ended."""
        self.session.execute(
            update(RankingModel)
            .where(RankingModel.ranking_id == ranking_id, RankingModel.state.in_(UNFINISHED_RUNS))
            .values(state=state, problem=problem, stage=None)
        )

    def record_event(self, event: Event) -> None:
        """Append to what clients follow. The row lock on the ranking keeps the numbers in the order of commits."""
        sequence = self.session.scalar(
            update(Ranking)
            .where(Ranking.id == event.ranking_id)
            .values(event_sequence=Ranking.event_sequence + 1)
            .returning(Ranking.event_sequence)
        )
        if sequence is not None:
            row = RankingEvent(ranking_id=event.ranking_id, sequence=sequence, type=event.type, data=event.data())
            self.session.add(row)
            self.session.flush()

    def standing(self, ranking_ids: Iterable[str]) -> dict[str, tuple[RankingState, int]]:
        """Ranking -> its present state, and the number of its last event."""
        wanted = list(ranking_ids)
        found: dict[str, tuple[RankingState, int]] = {}
        for start in range(0, len(wanted), LOOKUP_CHUNK):
            rows = self.session.execute(
                select(Ranking.id, Ranking.state, Ranking.event_sequence).where(
                    Ranking.id.in_(wanted[start : start + LOOKUP_CHUNK])
                )
            )
            found.update({identifier: (state, sequence) for identifier, state, sequence in rows})
        return found

    def events_beyond(self, positions: Mapping[str, int], *, limit: int) -> list[RankingEvent]:
        """What happened in each ranking since the event of that number, each ranking's in order; at most ``limit``."""
        wanted = list(positions.items())
        found: list[RankingEvent] = []
        for start in range(0, len(wanted), EVENTS_CHUNK):
            found += self.session.scalars(
                select(RankingEvent)
                .where(
                    or_(
                        *(
                            and_(RankingEvent.ranking_id == ranking_id, RankingEvent.sequence > sequence)
                            for ranking_id, sequence in wanted[start : start + EVENTS_CHUNK]
                        )
                    )
                )
                .order_by(RankingEvent.ranking_id, RankingEvent.sequence)
                .limit(limit - len(found))
            )
            if len(found) >= limit:
                break
        return found

    def scores(self, ranking_id: str, *, resamples: bool = False) -> list[tuple[RankingScore, Score]]:
        """Every cell of the ranking's table with its score; ``resamples``, which are long, only if asked for."""
        query = (
            select(RankingScore, Score)
            .join(Score, Score.id == RankingScore.score_id)
            .where(RankingScore.ranking_id == ranking_id)
        )
        if not resamples:
            query = query.options(defer(Score.resamples, raiseload=True))
        return [(cell, score) for cell, score in self.session.execute(query)]


class Scores:
    """Content-addressed scores, shared by all rankings."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def find_many(self, keys: Iterable[ScoreKey]) -> dict[ScoreKey, str]:
        """(evidence, metric, parameters) -> id of the score, for those that exist."""
        wanted = list(keys)
        found: dict[ScoreKey, str] = {}
        for start in range(0, len(wanted), LOOKUP_CHUNK):
            rows = self.session.execute(
                select(Score.evidence_key, Score.metric, Score.parameters_key, Score.id).where(
                    tuple_(Score.evidence_key, Score.metric, Score.parameters_key).in_(
                        wanted[start : start + LOOKUP_CHUNK]
                    )
                )
            )
            found.update(
                {(evidence, metric, parameters): identifier for evidence, metric, parameters, identifier in rows}
            )
        return found

    def _insert(self, table: Any) -> Any:
        return (sqlite_insert if self.session.get_bind().dialect.name == "sqlite" else postgresql_insert)(table)

    def store(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add scores; existing ones stay as they are."""
        if not rows:
            return
        values = [{"id": new_id("scr"), "created_at": now(), **row} for row in rows]
        self.session.execute(self._insert(Score).on_conflict_do_nothing(), values)

    def link(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Say which score answers which cell of a ranking."""
        if rows:
            self.session.execute(self._insert(RankingScore).on_conflict_do_nothing(), list(rows))
