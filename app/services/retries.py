"""Requests that may be sent again: the effect happens once, the answer is given as often as it is asked for.

A request first claims its key, visibly to all API processes. Its answer is stored by the transaction that has the
effect, so after a crash either both are there or neither. A claim whose server died ends after
``FORERANK_IDEMPOTENCY_IN_FLIGHT_SECONDS``; should its server be alive after all, it finds its claim gone and undoes
its effect.
"""

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.db.repositories.idempotency import IdempotentRequests
from app.db.session import Database
from app.errors import Conflict, Invalid
from app.settings import Settings

PURGE_EVERY_SECONDS = 600


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first request was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Retries:
    """The memory of one deployment for requests that may be sent again."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        self.kept_seconds = settings.idempotency_hours * 3600
        self.in_flight_seconds = settings.idempotency_in_flight_seconds
        self._purged = float("-inf")
        self._lock = threading.Lock()

    def attempt(self, *, owner: str, key: str) -> "Attempt":
        """One request under a key."""
        return Attempt(self, owner, key)

    def purge_sometimes(self) -> None:
        """Remove what is old, now and then."""
        with self._lock:
            if time.monotonic() - self._purged < PURGE_EVERY_SECONDS:
                return
            self._purged = time.monotonic()
        with self.database.transaction() as session:
            IdempotentRequests(session).purge(kept_seconds=self.kept_seconds, in_flight_seconds=self.in_flight_seconds)


class Attempt:
    """One request under a key: begun, then completed or released."""

    def __init__(self, retries: Retries, owner: str, key: str) -> None:
        self._retries = retries
        self._owner = owner
        self._key = key
        self._token = secrets.token_hex(16)
        self._held = False

    def begin(self, digest: str) -> StoredAnswer | None:
        """Claim the key for a request with this digest, or give the answer that it had before.

        Raises:
            Invalid: the key belongs to another request.
            Conflict: the first request is still being answered.
        """
        self._retries.purge_sometimes()
        with self._retries.database.transaction() as session:
            requests = IdempotentRequests(session)
            self._held = requests.claim(
                owner=self._owner,
                key=self._key,
                digest=digest,
                token=self._token,
                kept_seconds=self._retries.kept_seconds,
                in_flight_seconds=self._retries.in_flight_seconds,
            )
            if self._held:
                return None
            first = requests.find(owner=self._owner, key=self._key)
        if first is not None and first.digest != digest:
            detail = "this Idempotency-Key was sent with another request; make a new one for a new request"
            raise Invalid(detail, errors=[{"pointer": "/header/Idempotency-Key", "detail": detail}])
        if first is None or first.status is None:
            raise Conflict(
                "the first request with this Idempotency-Key is still being answered; send it again soon",
                headers={"Retry-After": "1"},
            )
        return StoredAnswer(first.status, first.headers or {}, (first.body or "").encode())

    def complete(self, session: Session | None, answer: StoredAnswer) -> None:
        """Keep the answer, in the transaction of the effect if there is one.

        Raises:
            Conflict: another request has taken the key over, so this one must not have its effect.
        """
        if not self._held:
            return
        if session is None:
            with self._retries.database.transaction() as own:
                self._store(own, answer)
        else:
            self._store(session, answer)

    def _store(self, session: Session, answer: StoredAnswer) -> None:
        if not IdempotentRequests(session).complete(
            owner=self._owner,
            key=self._key,
            token=self._token,
            status=answer.status,
            headers=dict(answer.headers),
            body=answer.body.decode(),
        ):
            raise Conflict("this request took so long that another one with its Idempotency-Key has begun")

    def release(self) -> None:
        """Free the key: the request failed and changed nothing."""
        if not self._held:
            return
        self._held = False
        with self._retries.database.transaction() as session:
            IdempotentRequests(session).release(owner=self._owner, key=self._key, token=self._token)
