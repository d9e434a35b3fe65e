"""Pages of lists: `?limit=&cursor=`, newest first."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from app.contracts.listing import Listing
from app.schemas.page import decode_cursor

MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]")

LimitQuery = Annotated[int, Query(ge=1, le=200, description="Items of a page.")]
CursorQuery = Annotated[
    str | None,
    Query(min_length=1, max_length=500, description="`next_cursor` of the page before."),
    AfterValidator(lambda cursor: None if cursor is None else decode_cursor(cursor)),
]


def _not_a_number(value: Any) -> Any:
    # Pydantic would read a number as seconds since 1970, which the document does not speak of.
    if isinstance(value, str) and not MOMENT.match(value):
        raise ValueError("must be a moment as in 2026-01-31T12:00:00Z")
    return value


def _in_utc(moment: datetime | None) -> datetime | None:
    try:
        return None if moment is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie in the years 1 to 9999, in UTC") from error


TimeQuery = Annotated[
    AwareDatetime | None,
    BeforeValidator(_not_a_number),
    AfterValidator(_in_utc),
    Query(description="A moment with its zone, as in 2026-01-31T12:00:00Z."),
]


def _place(limit: LimitQuery = 50, cursor: CursorQuery = None) -> Listing:
    return Listing(limit=limit, after=cursor)


def _listing(
    place: Annotated[Listing, Depends(_place)],
    owner: str | None = None,
    created_after: TimeQuery = None,
    created_before: TimeQuery = None,
) -> Listing:
    chosen = {"owner": owner, "created_after": created_after, "created_before": created_before}
    return place.model_copy(update=chosen)


PlaceDep = Annotated[Listing, Depends(_place)]
ListingDep = Annotated[Listing, Depends(_listing)]
