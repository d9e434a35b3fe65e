"""Two rankings side by side."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import ReaderDep, ReadSessionDep
from app.contracts.listing import Listing
from app.contracts.states import RankingState
from app.schemas.rankings import ModelRow
from app.services import rankings, results
from app.web.rendering import render
from app.web.route import PageRoute

router = APIRouter(route_class=PageRoute, include_in_schema=False)

CHOICES = 200


@router.get("/compare")
def compare(
    request: Request,
    session: ReadSessionDep,
    caller: ReaderDep,
    first: Annotated[str, Query(max_length=300)] = "",
    second: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """Two rankings side by side: who moved, and by how much. Without two, a form to choose them."""
    choices = rankings.page(session, caller, Listing(limit=CHOICES), state=RankingState.SUCCEEDED).items
    if not (first and second):
        return render(request, "compare.html", choices=choices, rankings=[], metrics=[], moves=[])
    rows = [rankings.get(session, caller, reference) for reference in (first, second)]
    answers = results.answers(session, rows)
    tables = [results.table(session, row) for row in rows]
    names = {metric.name for metric in tables[1].metrics}
    shared = [metric for metric in tables[0].metrics if metric.name in names]
    return render(
        request,
        "compare.html",
        choices=choices,
        rankings=answers,
        metrics=shared,
        moves=_moves(tables[0].models, tables[1].models),
    )


def _moves(before: Sequence[ModelRow], after: Sequence[ModelRow]) -> list[dict[str, Any]]:
    """Every model of either ranking with its places in both, in the order of the second."""
    places = [
        {row.model_id: (place, row) for place, row in enumerate(rows, start=1) if row.state == "succeeded"}
        for rows in (before, after)
    ]
    moves: list[dict[str, Any]] = []
    order = [*places[1], *(model for model in places[0] if model not in places[1])]
    for model in order:
        (old, old_row), (new, new_row) = (place.get(model, (None, None)) for place in places)
        shown = new_row or old_row
        assert shown is not None  # noqa: S101 - the model is in one of the two
        moves.append(
            {
                "model_id": model,
                "model": shown.model,
                "places": (old, new),
                "moved": None if old is None or new is None else old - new,
                "changes": _changes(old_row, new_row),
            }
        )
    return moves


def _changes(before: ModelRow | None, after: ModelRow | None) -> dict[str, float]:
    """Metric -> how much the score of a model that is in both rankings changed."""
    if before is None or after is None:
        return {}
    return {
        name: new.value - old.value
        for name, new in after.scores.items()
        if (old := before.scores.get(name)) and old.value is not None and new.value is not None
    }
