"""API keys: made, shown once, recognised, revoked."""

import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

from sqlalchemy.orm import Session

from app.contracts.caller import SCOPES, Caller
from app.db.repositories.keys import Keys
from app.db.session import Database
from app.db.tables import ApiKey, now
from app.errors import Conflict, Invalid, NotFound, Unauthenticated
from app.settings import Settings

SECRET_BYTES = 32
SECRET_PREFIX = "frk_"  # noqa: S105 - what every secret begins with, so that scanners find leaked ones
SHOWN_CHARACTERS = 12
LONGEST_SECRET = 200
USE_NOTED_EVERY = timedelta(minutes=1)
CHALLENGE = {"WWW-Authenticate": 'ApiKey realm="forerank", header="X-API-Key"'}


class UnsafeBind(Exception):
    """Others could reach the server, and nobody would need a key."""


def _digest(secret: str) -> str:
    # No salt and no slow hash: the secret is 256 random bits, which nobody can guess from a fast hash.
    return sha256(secret.encode()).hexdigest()


def create(session: Session, *, name: str, scopes: Sequence[str]) -> tuple[ApiKey, str]:
    """A new key and its secret, which is stored nowhere.

    A wider scope includes the narrower: admin > submit > read.

    Raises:
        Invalid: a scope is not known, or the name is not printable.
        Conflict: a valid key has that name.
    """
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise Invalid(f"there is no scope {', '.join(unknown)}; there are: {', '.join(SCOPES)}")
    if not scopes:
        raise Invalid(f"a key needs a scope: {', '.join(SCOPES)}")
    if not name.strip() or not name.isprintable() or len(name) > 200:
        raise Invalid("a key needs a name of 1 to 200 printable characters")
    keys = Keys(session)
    if any(key.revoked_at is None and key.name == name for key in keys.named(name)):
        raise Conflict(f"there is a key named {name!r}; revoke it, or choose another name")
    widest = max(SCOPES.index(scope) for scope in scopes)
    secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    key = ApiKey(
        name=name,
        prefix=secret[:SHOWN_CHARACTERS],
        digest=_digest(secret),
        scopes=list(SCOPES[: widest + 1]),
    )
    return keys.add(key), secret


def revoke(session: Session, reference: str) -> ApiKey:
    """End a key, given its id, prefix or name. What it owns stays.

    Raises:
        NotFound: there is no valid key of that id, prefix or name.
        Conflict: there are several.
    """
    keys = Keys(session)
    found = [key for key in keys.named(reference) if key.revoked_at is None]
    if not found:
        raise NotFound(f"there is no valid key {reference!r}; forerank key list shows them")
    if len(found) > 1:
        raise Conflict(f"{reference!r} may be {', '.join(key.id for key in found)}; give the id")
    keys.revoke(found[0].id)
    return found[0]


def authenticate(database: Database, secret: str) -> Caller:
    """Who holds this secret.

    Raises:
        Unauthenticated: nobody, or its key was revoked.
    """
    digest = _digest(secret) if len(secret) <= LONGEST_SECRET else ""
    with database.reading() as session:
        key = Keys(session).by_digest(digest)
    # The index found the row by the hash of what was sent, which tells an attacker nothing about a stored secret;
    # the comparison in constant time keeps that true whatever the database compares by.
    if key is None or not hmac.compare_digest(key.digest, digest) or key.revoked_at is not None:
        raise Unauthenticated("the key in X-API-Key is not known or was revoked", headers=CHALLENGE)
    moment = now()
    if key.last_used_at is None or key.last_used_at < moment - USE_NOTED_EVERY:
        with database.transaction() as session:
            Keys(session).touch(key.id, moment=moment, unless_after=moment - USE_NOTED_EVERY)
    return Caller(key.id, frozenset(key.scopes))


def check_bind(settings: Settings, database: Database) -> None:
    """Refuse to serve others while there is no key.

    Raises:
        UnsafeBind: the server would listen beyond loopback, and no valid key exists.
    """
    if settings.is_loopback:
        return
    with database.reading() as session:
        if not Keys(session).any_valid():
            raise UnsafeBind(
                f"{settings.host} can be reached by others, and there is no API key. "
                "Make one with `forerank key create NAME --scope admin`, or bind to 127.0.0.1."
            )
