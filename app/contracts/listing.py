"""Which part of a list is wanted."""

from datetime import datetime

from app.contracts.base import Contract


class Listing(Contract):
    """A page of a list that is newest first, and what its items must be.

    Attributes:
        limit: items of the page.
        after: key of the last item of the page before.
        owner: whose items.
    """

    limit: int = 50
    after: str | None = None
    owner: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
