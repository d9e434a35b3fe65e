"""What data sets, models, zoos and rankings have in common: owners, names, pages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.db.schedule_tables import Schedule
from app.db.tables import Dataset, Model, Ranking, Zoo
from app.db.webhook_tables import Webhook

Row = TypeVar("Row", Dataset, Model, Zoo, Ranking, Webhook, Schedule)


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

    def page(
        self,
        caller: Caller,
        *,
        limit: int,
        before: str | None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        owner: str | None = None,
        conditions: Sequence[ColumnElement[bool]] = (),
    ) -> list[Row]:
        """Up to ``limit + 1`` rows, newest first, older than the id ``before``."""
        table = self.table
        query = self.visible(caller).where(*conditions)
        if owner is not None:
            query = query.where(table.owner == owner)
        if created_after is not None:
            query = query.where(table.created_at >= created_after)
        if created_before is not None:
            query = query.where(table.created_at < created_before)
        if before is not None:
            query = query.where(table.id < before)
        return list(self.session.scalars(query.order_by(table.id.desc()).limit(limit + 1)))

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
