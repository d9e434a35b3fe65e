"""Lists in pages: a cursor says after which row the next page begins."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

Row = TypeVar("Row")
Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Some of a list's items."""

    items: list[Item]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null: there is no more.")


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


def encode_cursor(key: str) -> str:
    """The cursor of the page that begins after the row with this key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The key in a cursor.

    Raises:
        ValueError: it is not a cursor that `encode_cursor` made.
    """
    try:
        key = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        key = ""
    if not key or not key.isprintable() or encode_cursor(key) != cursor:
        raise ValueError("this is not a cursor of ours; give the `next_cursor` of the page before, or none")
    return key
