"""What a run changed: which models entered, left and moved, what was computed and what was reused."""

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from app.contracts.rankings import Counters
from app.contracts.schedules import Comparison, Move, Place, RunReport, TargetReport
from app.contracts.states import ModelRunState
from app.db.repositories.models import Models
from app.db.repositories.placements import Placements
from app.db.repositories.rankings import Rankings
from app.db.repositories.schedules import ScheduleRuns
from app.db.schedule_tables import RunTarget, Schedule, ScheduleRun
from app.db.tables import Ranking


def compose(session: Session, schedule: Schedule, run: ScheduleRun) -> RunReport:
    """The report of a run, from the rankings that it started."""
    targets = [_target(session, run, target) for target in ScheduleRuns(session).targets([run.id])[run.id]]
    seconds = (run.finished_at - run.started_at).total_seconds() if run.finished_at and run.started_at else None
    return RunReport(
        run_id=run.id,
        schedule_id=schedule.id,
        schedule=schedule.name,
        scheduled_at=run.scheduled_at,
        finished_at=run.finished_at,
        state=run.state,
        seconds=seconds,
        computed=sum(len(target.computed) for target in targets),
        reused=sum(target.reused for target in targets),
        changed_models=run.changed_models or {},
        targets=tuple(targets),
    )


def _target(session: Session, run: ScheduleRun, target: RunTarget) -> TargetReport:
    ranking = Rankings(session).get(target.ranking_id) if target.ranking_id else None
    previous = ScheduleRuns(session).previous_ranking(run, target.target_id) if target.target_id else None
    placements = Placements(session)
    present = placements.places(ranking.id) if ranking else {}
    past = placements.places(previous.id) if previous else {}
    runs = Rankings(session).models(ranking.id) if ranking else []
    rows = Models(session).get_many({*present, *past, *(row.model_id for row in runs)})
    names = {identifier: row.name for identifier, row in rows.items()}
    problem = target.problem or (ranking.problem if ranking else None)
    computed = [row.model_id for row in runs if row.state is ModelRunState.SUCCEEDED and not row.reused]
    return TargetReport(
        **dict(compare(past, present, names, known=previous is not None)),
        target=target.target,
        target_id=target.target_id,
        ranking_id=target.ranking_id,
        previous_ranking_id=previous.id if previous else None,
        data_change=target.data,
        problem=problem,
        counters=Rankings(session).counters([ranking])[ranking.id] if ranking else Counters(),
        failed=_named([row.model_id for row in runs if row.state is ModelRunState.FAILED], names),
        computed=_named(computed, names),
        reused=sum(row.reused and row.state is ModelRunState.SUCCEEDED for row in runs),
        seconds=_seconds(ranking),
    )


def compare(
    past: Mapping[str, int], present: Mapping[str, int], names: Mapping[str, str], *, known: bool
) -> Comparison:
    """What differs between two tables.

    Args:
        past: model -> rank, on the table before.
        present: model -> rank, on the table now.
        names: of the models.
        known: whether there was a table before; without one nothing has entered, left or moved.
    """

    def places(table: Mapping[str, int], models: set[str]) -> tuple[Place, ...]:
        found = [Place(model_id=model, model=names.get(model, model), rank=table[model]) for model in models]
        return tuple(sorted(found, key=lambda place: (place.rank, place.model)))

    best = places(present, {model for model, rank in present.items() if rank == 1})[:1]
    before = {model for model, rank in past.items() if rank == 1}
    moved = [
        Move(model_id=model, model=names.get(model, model), before=past[model], after=present[model])
        for model in past.keys() & present.keys()
        if past[model] != present[model]
    ]
    return Comparison(
        best=best[0] if best else None,
        new_best=known and bool(best) and best[0].model_id not in before,
        entered=places(present, set(present) - set(past)) if known else (),
        left=places(past, set(past) - set(present)) if known else (),
        moved=tuple(sorted(moved, key=lambda move: (move.after, move.model))),
    )


def _named(models: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(names.get(model, model) for model in models))


def _seconds(ranking: Ranking | None) -> float | None:
    if ranking is None or ranking.finished_at is None:
        return None
    return (ranking.finished_at - ranking.created_at).total_seconds()
