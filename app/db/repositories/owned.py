"""What data sets, models, zoos and rankings have in common: owners, names, pages."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.listing import Listing
from app.db.fine_tuning_tables import FineTuning
from app.db.schedule_tables import Schedule
from app.db.tables import Dataset, Model, Ranking, Zoo
from app.db.webhook_tables import Webhook

Row = TypeVar("Row", Dataset, Model, Zoo, Ranking, Webhook, Schedule, FineTuning)


class OwnedRepository(Generic[Row]):
    """Queries on one table, limited to the rows that a caller may see."""

    table: type[Row]

    def __init__(self, session: Session) -> None:
        self.session = session

    def visible(self, caller: Caller) -> Select[Row]:
        """All rows that the caller owns, or that are shared; an admin sees every row."""
        query = select(self.table)
        if caller.is_admin:
            return query
        return query.where(or_(self.table.owner == caller.owner, self.table.shared))

    def find(self, caller: Caller, reference: str) -> Row | None:
        """The row with this id or, failing that, this name; the caller's own before a shared one, then the newest."""
        table = self.table
        rows = self.session.scalars(
            self.visible(caller)
            .where(or_(table.id == reference, table.name == reference))
            .order_by((table.id == reference).desc(), (table.owner == caller.owner).desc(), table.id.desc())
            .limit(1)
        )
        return rows.first()

    def get(self, identifier: str) -> Row | None:
        """The row with this id, whoever owns it."""
        return self.session.get(self.table, identifier)

    def lock(self, identifier: str) -> Row | None:
        """As `get`, and nobody else changes the row until this transaction ends."""
        return self.session.get(self.table, identifier, with_for_update=True, populate_existing=True)

    def page(
        self,
        caller: Caller,
        listing: Listing,
        *,
        conditions: Sequence[ColumnElement[bool]] = (),
    ) -> list[Row]:
        """Up to ``limit + 1`` rows, newest first, older than the id ``after``."""
        table = self.table
        query = self.visible(caller).where(*conditions)
        if listing.owner is not None:
            query = query.where(table.owner == listing.owner)
        if listing.created_after is not None:
            query = query.where(table.created_at >= listing.created_after)
        if listing.created_before is not None:
            query = query.where(table.created_at < listing.created_before)
        if listing.after is not None:
            query = query.where(table.id < listing.after)
        return list(self.session.scalars(query.order_by(table.id.desc()).limit(listing.limit + 1)))

    def name_is_taken(self, owner: str, name: str) -> bool:
        """Whether this owner has something of that name already."""
        table = self.table
        found: Any = self.session.scalar(select(table.id).where(table.owner == owner, table.name == name).limit(1))
        return found is not None

    def add(self, row: Row) -> Row:
        """Store a new row."""
        self.session.add(row)
        self.session.flush()
        return row

    def delete(self, row: Row) -> None:
        """Remove a row."""
        self.session.delete(row)
        self.session.flush()
