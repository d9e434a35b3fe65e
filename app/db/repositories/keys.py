"""Queries on API keys."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from app.db.tables import ApiKey, now


class Keys:
    """Callers and the hashes of their secrets."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, key: ApiKey) -> ApiKey:
        """Store a new key."""
        self.session.add(key)
        self.session.flush()
        return key

    def get(self, identifier: str) -> ApiKey | None:
        """The key with this id, revoked ones too."""
        return self.session.get(ApiKey, identifier)

    def by_digest(self, digest: str) -> ApiKey | None:
        """The key whose secret hashes so, revoked ones too."""
        return self.session.scalar(select(ApiKey).where(ApiKey.digest == digest))

    def all(self) -> Sequence[ApiKey]:
        """Every key, oldest first."""
        return self.session.scalars(select(ApiKey).order_by(ApiKey.id)).all()

    def any_valid(self) -> bool:
        """Whether somebody could get in."""
        return self.session.scalar(select(ApiKey.id).where(ApiKey.revoked_at.is_(None)).limit(1)) is not None

    def revoked(self, identifiers: Collection[str]) -> set[str]:
        """Which of these were revoked."""
        return set(
            self.session.scalars(
                select(ApiKey.id).where(ApiKey.id.in_(list(identifiers)), ApiKey.revoked_at.is_not(None))
            )
        )

    def named(self, reference: str) -> Sequence[ApiKey]:
        """Keys with this id, prefix or name."""
        return self.session.scalars(
            select(ApiKey).where(or_(ApiKey.id == reference, ApiKey.prefix == reference, ApiKey.name == reference))
        ).all()

    def touch(self, key_id: str, *, moment: datetime, unless_after: datetime) -> None:
        """Note that the key was used, unless that was noted lately."""
        self.session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < unless_after))
            .values(last_used_at=moment)
        )

    def revoke(self, key_id: str) -> None:
        """Revoke it."""
        self.session.execute(
            update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=now())
        )
