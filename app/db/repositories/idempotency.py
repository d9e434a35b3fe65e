"""Queries on requests that may be sent again."""

from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.db.session import database_seconds
from app.db.tables import IdempotentRequest


class IdempotentRequests:
    """First answers, by owner and key."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def claim(self, *, owner: str, key: str, digest: str, token: str) -> bool:
        """Store a request that is now being answered; False: there is a row already."""
        statement = upsert(self.session, IdempotentRequest).values(
            owner=owner, key=key, digest=digest, token=token, claimed_at=database_seconds()
        )
        stored = self.session.execute(statement.on_conflict_do_nothing().returning(IdempotentRequest.token))
        return stored.first() is not None

    def find(self, *, owner: str, key: str) -> tuple[IdempotentRequest, float] | None:
        """The row, and how many seconds ago it was claimed."""
        found = self.session.execute(
            select(IdempotentRequest, database_seconds() - IdempotentRequest.claimed_at)
            .where(IdempotentRequest.owner == owner, IdempotentRequest.key == key)
            .execution_options(populate_existing=True)
        ).first()
        return None if found is None else (found[0], float(found[1]))

    def complete(self, *, owner: str, key: str, token: str, status: int, headers: dict[str, Any], body: str) -> bool:
        """Keep the answer; False: another attempt has taken the key over."""
        completed = self.session.execute(
            update(IdempotentRequest)
            .where(
                IdempotentRequest.owner == owner,
                IdempotentRequest.key == key,
                IdempotentRequest.token == token,
                IdempotentRequest.status.is_(None),
            )
            .values(status=status, headers=headers, body=body)
            .returning(IdempotentRequest.token)
        )
        return completed.first() is not None

    def release(self, *, owner: str, key: str, token: str) -> None:
        """Forget a request that this attempt could not fulfil."""
        self.session.execute(
            delete(IdempotentRequest).where(
                IdempotentRequest.owner == owner,
                IdempotentRequest.key == key,
                IdempotentRequest.token == token,
                IdempotentRequest.status.is_(None),
            )
        )

    def purge(self, *, kept_seconds: float, in_flight_seconds: float) -> None:
        """Remove answers that are old enough, and attempts whose server must have died."""
        age = database_seconds() - IdempotentRequest.claimed_at
        self.session.execute(
            delete(IdempotentRequest).where(
                (age > kept_seconds) | (IdempotentRequest.status.is_(None) & (age > in_flight_seconds))
            )
        )
