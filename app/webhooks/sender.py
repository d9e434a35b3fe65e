"""One attempt to bring a message to its receiver."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpcore2

from app.settings import Settings
from app.webhooks import signature
from app.webhooks.addresses import GuardedBackend, LimitExceeded, Refused

ANSWER_LIMIT_BYTES = 64_000
GONE = 410


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt went.

    Attributes:
        status: HTTP status of the answer; None: there was none.
        problem: why it does not count as delivered; None: delivered.
        is_final: whether trying again is useless.
    """

    status: int | None
    problem: str | None
    seconds: float
    is_final: bool = False


def body_of(*, kind: str, at: datetime, data: Mapping[str, Any]) -> str:
    """A message as it is signed, stored and sent, byte for byte the same at every attempt."""
    return json.dumps({"type": kind, "timestamp": at.isoformat(), "data": data}, separators=(",", ":"), sort_keys=True)


def send(settings: Settings, *, url: str, message_id: str, body: str, secrets_in_force: Sequence[str]) -> Attempt:
    """POST a signed message. Redirects are not followed, environment proxies are not used."""
    began = time.monotonic()
    content = body.encode()
    headers = {
        "content-type": "application/json",
        "user-agent": "forerank-webhooks",
        **signature.headers(
            message_id=message_id, timestamp=int(time.time()), body=content, secrets_in_force=secrets_in_force
        ),
    }
    backend = GuardedBackend(
        allow_private=settings.webhook_private_addresses,
        limit_seconds=settings.webhook_time_limit_seconds,
        limit_bytes=ANSWER_LIMIT_BYTES,
    )

    def ended(status: int | None, problem: str | None, *, is_final: bool = False) -> Attempt:
        return Attempt(status, problem, round(time.monotonic() - began, 3), is_final)

    try:
        with httpcore2.ConnectionPool(network_backend=backend, retries=0, http2=False) as pool:
            answer = pool.request("POST", url, headers=[*headers.items()], content=content)
    except Refused as refused:
        return ended(None, f"{refused}; FORERANK_WEBHOOK_PRIVATE_ADDRESSES allows it")
    except LimitExceeded as exceeded:
        return ended(None, str(exceeded))
    except httpcore2.TimeoutException:
        return ended(None, "the receiver did not answer in time")
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, OSError) as error:
        return ended(None, f"the receiver could not be reached: {error or type(error).__name__}")
    if 200 <= answer.status < 300:
        return ended(answer.status, None)
    if 300 <= answer.status < 400:
        return ended(answer.status, f"the receiver answered {answer.status}; redirects are not followed")
    return ended(answer.status, f"the receiver answered {answer.status}", is_final=answer.status == GONE)
