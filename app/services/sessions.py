"""Signing in with a key: a signed cookie names the key, never holds it, and ends when the key is revoked."""

import secrets
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from app.contracts.caller import Caller
from app.db.repositories.keys import Keys
from app.db.session import Database
from app.errors import Forbidden, Unauthenticated
from app.services.keys import authenticate
from app.settings import Settings

COOKIE = "forerank_session"
SECRET_FILE = "session.key"  # noqa: S105 - the name of the file
SECRET_BYTES = 32
LOCAL = "local"


class Sessions:
    """Makes and reads the cookies of this deployment; its API processes share one secret in ``FORERANK_HOME``."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._lifetime = round(settings.session_hours * 3600)
        secret = _shared_secret(settings.home)
        self._sessions = URLSafeTimedSerializer(secret, salt="session")
        self._forms = URLSafeTimedSerializer(secret, salt="form")

    def sign_in(self, key: str) -> str:
        """The cookie of whoever holds this API key.

        Raises:
            Unauthenticated: nobody does, or it was revoked.
        """
        caller = authenticate(self._database, key)
        return str(self._sessions.dumps([caller.owner, secrets.token_hex(8)]))

    def caller(self, cookie: str) -> Caller:
        """Who signed in.

        Raises:
            Unauthenticated: the cookie is not ours or too old, or its key was revoked.
        """
        try:
            owner, _ = self._sessions.loads(cookie, max_age=self._lifetime)
        except (BadSignature, ValueError, TypeError) as error:
            raise Unauthenticated("your session has ended; sign in again") from error
        with self._database.reading() as session:
            key = Keys(session).get(owner)
        if key is None or key.revoked_at is not None:
            raise Unauthenticated("the key that you signed in with was revoked; sign in with another")
        return Caller(key.id, frozenset(key.scopes))

    def form_token(self, cookie: str | None) -> str:
        """What a form of this session has to send back, so that no other site can send it."""
        return str(self._forms.dumps(cookie or LOCAL))

    def check_form(self, cookie: str | None, token: str) -> None:
        """Refuse a form that did not come from a page of this session.

        Raises:
            Forbidden: the token is missing, of another session, or too old.
        """
        try:
            genuine = self._forms.loads(token, max_age=self._lifetime) == (cookie or LOCAL)
        except BadSignature:
            genuine = False
        if not genuine:
            raise Forbidden("this form is too old or came from elsewhere; load the page again and send it from there")


def _shared_secret(home: Path) -> str:
    """The secret in ``home``; the process that comes first makes it, readable by its own user alone."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / SECRET_FILE
    made = home / f".{SECRET_FILE}-{secrets.token_hex(8)}"
    if not path.exists():
        made.touch(mode=0o600)
        made.write_text(secrets.token_hex(SECRET_BYTES))
        try:
            # A link, unlike a renaming, never replaces the secret of a process that was faster.
            path.hardlink_to(made)
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return path.read_text()
