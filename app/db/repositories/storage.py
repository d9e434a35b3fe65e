"""Queries on the last use and the leases of shared entries, by the database's clock."""

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from app.db.session import database_seconds
from app.db.storage_tables import StorageLease, StoredEntryRow


class SharedEntries:
    """Entries of one kind."""

    def __init__(self, session: Session, kind: str) -> None:
        self._session = session
        self._kind = kind

    def note(self, key: str, size: int, *, used_at: float | None = None) -> None:
        """An entry is there; if that is known already, only its size is written. ``used_at`` None: it is used now."""
        insert = sqlite_insert if self._session.get_bind().dialect.name == "sqlite" else postgresql_insert
        moment = select(database_seconds()).scalar_subquery() if used_at is None else used_at
        statement = insert(StoredEntryRow).values(kind=self._kind, key=key, bytes=size, used_at=moment)
        self._session.execute(
            statement.on_conflict_do_update(index_elements=["kind", "key"], set_={"bytes": statement.excluded.bytes})
        )

    def lease(self, key: str, *, seconds: float) -> str:
        """Mark an entry as used now and protect it for this long at most; the lease's id."""
        self._session.execute(update(StoredEntryRow).where(*self._is(key)).values(used_at=database_seconds()))
        lease = StorageLease(
            kind=self._kind, key=key, expires_at=self._session.scalars(select(database_seconds() + seconds)).one()
        )
        self._session.add(lease)
        self._session.flush()
        return lease.id

    def end_lease(self, lease: str) -> None:
        """The reader is done. Leases of those who died go as well."""
        self._session.execute(
            delete(StorageLease).where((StorageLease.id == lease) | (StorageLease.expires_at < database_seconds()))
        )

    def forget(self, key: str) -> bool:
        """Take an entry off the list unless somebody reads it; whether it may be removed."""
        if key in self.in_use():
            return False
        self._session.execute(delete(StoredEntryRow).where(*self._is(key)))
        return True

    def total(self) -> int:
        """Bytes of all entries."""
        total = self._session.scalar(select(func.sum(StoredEntryRow.bytes)).where(StoredEntryRow.kind == self._kind))
        return int(total or 0)

    def oldest_first(self) -> list[StoredEntryRow]:
        """All entries, the least recently used first."""
        rows = select(StoredEntryRow).where(StoredEntryRow.kind == self._kind)
        return list(self._session.scalars(rows.order_by(StoredEntryRow.used_at, StoredEntryRow.key)))

    def in_use(self) -> set[str]:
        """Keys of the entries that somebody reads."""
        rows = select(StorageLease.key).where(
            StorageLease.kind == self._kind, StorageLease.expires_at >= database_seconds()
        )
        return set(self._session.scalars(rows))

    def _is(self, key: str) -> tuple[ColumnElement[bool], ...]:
        return StoredEntryRow.kind == self._kind, StoredEntryRow.key == key
