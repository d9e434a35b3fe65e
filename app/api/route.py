"""What every route of the API does before and after its function.

Before a byte of the body is read, the caller is identified and its quota counted. Then JSON is read strictly, and a
POST with an Idempotency-Key is answered once.
"""

import re
from collections.abc import Callable, Coroutine, Sequence
from hashlib import sha256
from typing import Any

import anyio
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from app.api import strict_json
from app.api.dependencies import identify
from app.contracts.caller import Caller
from app.errors import BadRequest, Invalid
from app.services.quotas import Quotas
from app.services.retries import Attempt, Retries, StoredAnswer

LONG_BODY = 64_000
KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEPT_HEADERS = ("content-type", "location", "retry-after", "etag")


class StrictRequest(Request):
    """Reads JSON strictly; what is long is read on another thread, for requests wait for the event loop."""

    async def json(self) -> Any:
        """The body; see `strict_json.read`."""
        if not hasattr(self, "_json"):
            body = await self.body()
            if len(body) > LONG_BODY:
                self._json = await run_in_threadpool(strict_json.read, body)
            else:
                self._json = strict_json.read(body)
        return self._json


class Route(APIRoute):
    """Use it as the `route_class` of a router."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the function that FastAPI makes of the route."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            _check_target(request)
            submits = request.method == "POST"
            caller = await identify(request)
            if caller.owner != "local":
                quotas: Quotas = request.app.state.quotas
                quotas.count_request(caller.owner, submits=submits)
            key = request.headers.get("idempotency-key") if submits else None
            if key is not None and not KEY.fullmatch(key):
                detail = "an Idempotency-Key has 1 to 255 printable ASCII characters"
                raise Invalid.at("/header/Idempotency-Key", detail)
            # Before FastAPI reads it, which would hide the reason of a refusal.
            received = await self.read(request, caller)
            try:
                if key is None:
                    return await handle(received)
                retries: Retries = request.app.state.retries
                return await self._answer_once(received, retries.attempt(owner=caller.owner, key=key), handle)
            finally:
                await received.close()

        return handler

    async def read(self, request: Request, caller: Caller) -> StrictRequest:
        """The request with its body read; the errors of a long one are found on another thread."""
        received = StrictRequest(request.scope, request.receive)
        if self.body_field is None or not _is_json(request):
            return received
        value = await received.json()
        if len(await received.body()) > LONG_BODY:
            _, errors = await run_in_threadpool(self.body_field.validate, value, {}, loc=("body",))
            if errors:
                raise RequestValidationError(errors if isinstance(errors, list) else [errors])
        return received

    async def content(self, request: Request) -> list[bytes]:
        """What two bodies must share to be the same."""
        return [await request.body()]

    async def _answer_once(
        self, request: Request, attempt: Attempt, handle: Callable[[Request], Coroutine[Any, Any, Response]]
    ) -> Response:
        """Answer a request with an Idempotency-Key; runs inside the transaction of the route's `SessionDep`."""
        try:
            digest = _digest(request, await self.content(request))
            if (stored := await run_in_threadpool(attempt.begin, digest)) is not None:
                return Response(stored.body, stored.status, {**stored.headers, "Idempotency-Replayed": "true"})
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


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _check_target(request: Request) -> None:
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise BadRequest("the address holds a null character")


def _digest(request: Request, content: Sequence[bytes]) -> str:
    """The SHA-256 of what makes two requests the same."""
    digest = sha256()
    for part in (request.method.encode(), request.scope["path"].encode(), request.scope["query_string"], *content):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
