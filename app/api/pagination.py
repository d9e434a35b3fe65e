"""Pages of lists: `?limit=&cursor=`, newest first."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from app.schemas.page import Page, decode_cursor, encode_cursor

Row = TypeVar("Row")
Item = TypeVar("Item")

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


def _identifier(row: Any) -> str:
    identifier: str = row.id
    return identifier


def page_of(
    rows: Sequence[Row], limit: int, answer: Callable[[Row], Item], *, key: Callable[[Row], str] = _identifier
) -> Page[Item]:
    """The page made of the first ``limit`` rows; one row more says that there is another page.

    ``key`` is what the rows are ordered by.
    """
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(items=[answer(row) for row in shown], next_cursor=encode_cursor(key(shown[-1])) if more else None)
