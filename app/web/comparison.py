"""Two rankings side by side."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import ReaderDep, ReadSessionDep
from app.contracts.listing import Listing
from app.contracts.states import RankingState
from app.services import comparison, rankings, results
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
        return render(request, "compare.html", choices=choices, rankings=[])
    rows = [rankings.get(session, caller, reference) for reference in (first, second)]
    return render(
        request,
        "compare.html",
        choices=choices,
        rankings=results.answers(session, rows),
        comparison=comparison.compare(session, caller, first, second),
    )
