"""Secrets and signatures of Standard Webhooks: HMAC-SHA256 over ``id.timestamp.body``."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 32
VERSION = "v1"
TOLERANCE_SECONDS = 300


class WrongSignature(ValueError):
    """The message was not signed with any of the secrets, or too long ago."""


def new_secret() -> str:
    """256 random bits, written as the specification has it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(*, message_id: str, timestamp: int, body: bytes, secrets_in_force: Sequence[str]) -> dict[str, str]:
    """The three headers of a message.

    Args:
        timestamp: seconds since 1970 of this attempt.
        secrets_in_force: one, or two while a secret is being replaced; a receiver that knows either accepts.
    """
    signatures = [_sign(secret, message_id, timestamp, body) for secret in secrets_in_force]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"{VERSION},{signature}" for signature in signatures),
    }


def verify(*, headers: dict[str, str], body: bytes, secret: str, present: float) -> None:
    """What a receiver has to do with a message.

    Args:
        headers: with lower-case names.
        present: seconds since 1970 now.

    Raises:
        WrongSignature: the message is not from who knows the secret, or it is older than five minutes.
    """
    try:
        timestamp = int(headers["webhook-timestamp"])
        message_id, given = headers["webhook-id"], headers["webhook-signature"]
    except (KeyError, ValueError) as error:
        raise WrongSignature("a header of the three is missing or malformed") from error
    if abs(present - timestamp) > TOLERANCE_SECONDS:
        raise WrongSignature("the message is too old, or from the future")
    expected = f"{VERSION},{_sign(secret, message_id, timestamp, body)}"
    if not any(hmac.compare_digest(candidate, expected) for candidate in given.split()):
        raise WrongSignature("no signature fits the secret")


def _sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("the secret is not base64") from error
    return base64.b64encode(hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, sha256).digest()).decode()
