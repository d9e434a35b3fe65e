"""Lists in pages: a cursor says after which row the next page begins."""

import base64
import binascii
from typing import Generic, TypeVar

from pydantic import BaseModel, Field

from app.errors import Invalid

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Some of a list's items, newest first."""

    items: list[Item]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null: there is no more.")


def encode_cursor(identifier: str) -> str:
    """The cursor of the page that begins after the row with this id."""
    return base64.urlsafe_b64encode(identifier.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The id in a cursor.

    Raises:
        Invalid: it is not a cursor that `encode_cursor` made.
    """
    try:
        identifier = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        identifier = ""
    # The prefix of an id, an underscore and hexadecimal digits; nothing else reaches a query.
    prefix, _, digits = identifier.partition("_")
    if not (prefix.isalpha() and digits and set(digits) <= set("0123456789abcdef") and len(identifier) <= 64):
        detail = "this is no cursor of ours; give the `next_cursor` of the page before, or none"
        raise Invalid(detail, errors=[{"pointer": "/query/cursor", "detail": detail}])
    return identifier
