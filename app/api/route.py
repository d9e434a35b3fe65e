"""What every route of the API does before and after its function.

Before a byte of the body is read: who asks, and whether that is too often. Then JSON is read strictly, and a POST with
an Idempotency-Key is answered once.
"""

import json
import re
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any, NoReturn

import anyio
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from app.api.dependencies import identify
from app.errors import BadRequest, Invalid
from app.services.quotas import Quotas
from app.services.retries import Attempt, Retries, StoredAnswer

DEEPEST_JSON = 32
KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEPT_HEADERS = ("content-type", "location", "retry-after", "etag")


class StrictRequest(Request):
    """Reads JSON as the standard defines it: no NaN, no infinity; and no deeper than anything we ask for."""

    async def json(self) -> Any:
        """The body.

        Raises:
            HTTPException: 400; FastAPI would hide any other exception's reason.
        """
        if not hasattr(self, "_json"):
            body = await self.body()
            try:
                self._json = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
                _check(self._json, 0)
            except (ValueError, RecursionError) as error:
                reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
                raise HTTPException(400, f"the body is not JSON that can be read: {reason}") from error
        return self._json


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large a number")
    return number


def _check(value: Any, depth: int) -> None:
    if depth > DEEPEST_JSON:
        raise ValueError(f"it is nested more than {DEEPEST_JSON} deep")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            _check(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check(member, depth + 1)


def _check_text(text: str) -> None:
    # PostgreSQL stores neither of the two.
    if "\0" in text:
        raise ValueError("a string holds a null character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a string holds half of a surrogate pair") from error


class Route(APIRoute):
    """Use it as the `route_class` of a router."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the function that FastAPI makes of the route."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            _check_target(request)
            submits = request.method == "POST"
            caller = await run_in_threadpool(identify, request)
            if caller.owner != "local":
                quotas: Quotas = request.app.state.quotas
                quotas.count_request(caller.owner, submits=submits)
            strict = StrictRequest(request.scope, request.receive)
            key = request.headers.get("idempotency-key")
            if key is None or not submits:
                return await handle(strict)
            if not KEY.fullmatch(key):
                detail = "an Idempotency-Key has 1 to 255 printable ASCII characters"
                raise Invalid(detail, errors=[{"pointer": "/header/Idempotency-Key", "detail": detail}])
            retries: Retries = request.app.state.retries
            return await _answer_once(strict, retries.attempt(owner=caller.owner, key=key), handle)

        return handler


def _check_target(request: Request) -> None:
    if "\0" in request.url.path or b"%00" in request.scope["query_string"]:
        raise BadRequest("the address holds a null character")


async def _answer_once(
    request: Request, attempt: Attempt, handle: Callable[[Request], Coroutine[Any, Any, Response]]
) -> Response:
    """Answer a request with an Idempotency-Key; runs inside the transaction of the route's `SessionDep`."""
    request.state.attempt = attempt
    try:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            # A form's boundary is new with each retry: such routes take the digest of what they received.
            digest = request_digest(request, await request.body())
            if (stored := await run_in_threadpool(attempt.begin, digest)) is not None:
                return replay(stored)
        response = await handle(request)
        kept = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        answer = StoredAnswer(response.status_code, kept, bytes(response.body))
        await run_in_threadpool(attempt.complete, getattr(request.state, "session", None), answer)
    except BaseException:
        session = getattr(request.state, "session", None)
        with anyio.CancelScope(shield=True):
            if session is not None:
                # SQLite has one writer: the route's transaction has to end before the key can be freed.
                await run_in_threadpool(session.rollback)
            await run_in_threadpool(attempt.release)
        raise
    return response


def request_digest(request: Request, *parts: bytes) -> str:
    """The SHA-256 of what makes two requests the same."""
    digest = sha256()
    for part in (request.method.encode(), request.url.path.encode(), request.scope["query_string"], *parts):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def replay(stored: StoredAnswer) -> Response:
    """The first answer again."""
    return Response(stored.body, stored.status, {**stored.headers, "Idempotency-Replayed": "true"})
