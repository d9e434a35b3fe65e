"""Tables of the entries that hosts share through an S3-compatible service: the files are there, their use is here."""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.tables import Base, new_id


class StoredEntryRow(Base):
    """An entry and its last use, seconds since 1970 by the database's clock."""

    __tablename__ = "stored_entries"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[float]


class StorageLease(Base):
    """Somebody reads an entry, until they say otherwise or the lease expires: the holder may have died."""

    __tablename__ = "storage_leases"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("lse"))
    kind: Mapped[str] = mapped_column(String(16))
    key: Mapped[str] = mapped_column(String(64), index=True)
    expires_at: Mapped[float]
