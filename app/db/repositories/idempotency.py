"""Queries on requests that may be sent again."""

from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from app.db.session import database_seconds
from app.db.tables import IdempotentRequest


class IdempotentRequests:
    """First answers, by owner and key."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def claim(
        self, *, owner: str, key: str, digest: str, token: str, kept_seconds: float, in_flight_seconds: float
    ) -> bool:
        """Store a request that is now being answered; False: it is, or was, answered already."""
        self.session.execute(
            delete(IdempotentRequest).where(
                IdempotentRequest.owner == owner,
                IdempotentRequest.key == key,
                _is_over(kept_seconds=kept_seconds, in_flight_seconds=in_flight_seconds),
            )
        )
        insert = sqlite_insert if self.session.get_bind().dialect.name == "sqlite" else postgresql_insert
        stored = self.session.execute(
            insert(IdempotentRequest)
            .values(owner=owner, key=key, digest=digest, token=token, claimed_at=database_seconds())
            .on_conflict_do_nothing()
            .returning(IdempotentRequest.token)
        )
        return stored.first() is not None

    def find(self, *, owner: str, key: str) -> IdempotentRequest | None:
        """The request, answered or not."""
        return self.session.get(IdempotentRequest, (owner, key))

    def complete(self, *, owner: str, key: str, token: str, status: int, headers: dict[str, Any], body: str) -> bool:
        """Keep the answer; False: another attempt has taken the key over."""
        completed = self.session.execute(
            update(IdempotentRequest)
            .where(*_held(owner, key, token))
            .values(status=status, headers=headers, body=body)
            .returning(IdempotentRequest.token)
        )
        return completed.first() is not None

    def release(self, *, owner: str, key: str, token: str) -> None:
        """Forget a request that this attempt could not fulfil."""
        self.session.execute(delete(IdempotentRequest).where(*_held(owner, key, token)))

    def purge(self, *, kept_seconds: float, in_flight_seconds: float) -> None:
        """Remove answers that are old enough, and attempts whose server must have died."""
        self.session.execute(
            delete(IdempotentRequest).where(_is_over(kept_seconds=kept_seconds, in_flight_seconds=in_flight_seconds))
        )


def _held(owner: str, key: str, token: str) -> tuple[ColumnElement[bool], ...]:
    return (
        IdempotentRequest.owner == owner,
        IdempotentRequest.key == key,
        IdempotentRequest.token == token,
        IdempotentRequest.status.is_(None),
    )


def _is_over(*, kept_seconds: float, in_flight_seconds: float) -> ColumnElement[bool]:
    claimed = IdempotentRequest.claimed_at
    return or_(
        claimed < database_seconds() - kept_seconds,
        and_(IdempotentRequest.status.is_(None), claimed < database_seconds() - in_flight_seconds),
    )
