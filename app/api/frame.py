"""What surrounds every request: its id, its log line, its measurements, and limits on its body.

Plain ASGI, so that streams of events are not buffered.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import answer
from app.api.telemetry import Telemetry
from app.errors import BadRequest, ForerankError
from app.settings import Settings

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
MEGABYTE = 1_000_000

log = structlog.stdlib.get_logger("forerank.api")


class Frame:
    """Gives each request an id, bounds its body, answers what nothing else caught, and says how it went."""

    def __init__(self, app: ASGIApp, settings: Settings, telemetry: Telemetry) -> None:
        self.app = app
        self.settings = settings
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(10)}"
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.perf_counter()
        status = 0

        async def send_framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                outgoing = MutableHeaders(scope=message)
                outgoing["X-Request-ID"] = request_id
                outgoing["X-Content-Type-Options"] = "nosniff"
            await send(message)

        bounded = bound_body(receive, headers, limit=self._limit(scope), settings=self.settings)
        try:
            _check_host(headers)
            await self.app(scope, bounded, send_framed)
        except BadRequest as error:
            await answer(error.status, error.problem(), request_id=request_id)(scope, receive, send_framed)
        except ClientDisconnect:
            log.info("the client went away", method=scope["method"], path=scope["path"])
        except Exception:
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if status:
                raise
            document = ForerankError("this is not your fault; the operator's log has the reason").problem()
            await answer(500, document, request_id=request_id)(scope, receive, send_framed)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "unmatched")
            self.telemetry.record(method=scope["method"], route=route, status=status, seconds=seconds)
            quiet = route in {"/livez", "/readyz", "/metrics"}
            write = log.debug if quiet else log.info
            write("request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4))

    def _limit(self, scope: Scope) -> float:
        """Bytes of the body: arrays and archives may be long where they are read as streams."""
        if scope["path"] == "/v1/datasets/upload":
            return self.settings.upload_limit_megabytes * MEGABYTE
        if scope["path"] == "/v1/scores":
            return self.settings.scores_limit_megabytes * MEGABYTE
        return self.settings.body_limit_megabytes * MEGABYTE


def _check_host(headers: Headers) -> None:
    """Every later look at the request's URL takes this header for sound."""
    try:
        urlsplit(f"//{headers.get('host', '')}").port  # noqa: B018 - reading it checks it
    except ValueError as error:
        detail = "the header Host is not well-formed"
        raise BadRequest(detail, errors=[{"pointer": "/header/Host", "detail": detail}]) from error


def bound_body(receive: Receive, headers: Headers, *, limit: float, settings: Settings) -> Receive:
    """A `receive` that ends with 413 beyond ``limit`` bytes, and with 408 when the bytes come too slowly.

    What arrives is counted, so a Content-Length that lies changes nothing. The exceptions are Starlette's own, because
    FastAPI turns all others that a body raises into 400.
    """
    declared = headers.get("content-length", "")
    received = 0
    ended = False
    began: float | None = None
    too_large: Callable[[], HTTPException] = lambda: HTTPException(  # noqa: E731
        413,
        f"the body is over {limit / MEGABYTE:g} MB, the limit of this route",
        headers={"Connection": "close"},
    )

    async def bounded() -> Message:
        nonlocal received, ended, began
        if ended:
            return await receive()
        if declared.isdecimal() and int(declared) > limit:
            raise too_large()
        began = time.monotonic() if began is None else began
        allowed = settings.body_grace_seconds + received / settings.body_minimum_bytes_per_second
        try:
            async with asyncio.timeout(began + allowed - time.monotonic()):
                message = await receive()
        except TimeoutError as error:
            rate = settings.body_minimum_bytes_per_second
            raise HTTPException(
                408,
                f"the body came too slowly; send at least {rate:g} bytes a second",
                headers={"Connection": "close"},
            ) from error
        received += len(message.get("body", b""))
        ended = message["type"] != "http.request" or not message.get("more_body", False)
        if received > limit:
            raise too_large()
        return message

    return bounded
