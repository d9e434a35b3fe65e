"""Two rankings side by side: who moved, by how much, and how far the scores of shared metrics changed."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.states import ModelRunState
from app.schemas.rankings import ComparisonAnswer, ModelMove, ModelRow, ResultsAnswer
from app.services import rankings, results


def compare(session: Session, caller: Caller, first: str, second: str) -> ComparisonAnswer:
    """What the second ranking changed of the first; of different targets, places only.

    Raises:
        NotFound: there is no such ranking for this caller.
    """
    before, after = (results.table(session, rankings.get(session, caller, name)) for name in (first, second))
    return side_by_side(before, after)


def side_by_side(before: ResultsAnswer, after: ResultsAnswer) -> ComparisonAnswer:
    """The same of two tables."""
    same_target = before.target.id == after.target.id
    names = {metric.name for metric in before.metrics}
    shared = [metric for metric in after.metrics if same_target and metric.name in names]
    return ComparisonAnswer(
        first_id=before.ranking_id,
        second_id=after.ranking_id,
        same_target=same_target,
        metrics=shared,
        models=_moves(before.models, after.models, [metric.name for metric in shared]),
    )


def _moves(before: Sequence[ModelRow], after: Sequence[ModelRow], metrics: Sequence[str]) -> list[ModelMove]:
    old, new = _places(before), _places(after)
    moves = []
    for model_id in [*new, *(model_id for model_id in old if model_id not in new)]:
        old_place, old_row = old.get(model_id, (None, None))
        new_place, new_row = new.get(model_id, (None, None))
        moves.append(
            ModelMove(
                model_id=model_id,
                model=(new[model_id] if model_id in new else old[model_id])[1].model,
                first_place=old_place,
                second_place=new_place,
                moved_up=None if old_place is None or new_place is None else old_place - new_place,
                score_changes={} if old_row is None or new_row is None else _changes(old_row, new_row, metrics),
            )
        )
    return moves


def _places(rows: Sequence[ModelRow]) -> dict[str, tuple[int, ModelRow]]:
    """Model -> its place among those that have a result."""
    ranked = [row for row in rows if row.state is ModelRunState.SUCCEEDED]
    return {row.model_id: (place, row) for place, row in enumerate(ranked, start=1)}


def _changes(before: ModelRow, after: ModelRow, metrics: Sequence[str]) -> dict[str, float]:
    changes = {}
    for name in metrics:
        old, new = before.scores.get(name), after.scores.get(name)
        if old and new and old.value is not None and new.value is not None:
            changes[name] = new.value - old.value
    return changes
