"""Every error leaves as a problem document (RFC 9457)."""

import errno
import http
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.api.strict_json import pointer_part
from app.contracts.problems import KINDS, problem_type
from app.db.outages import is_full
from app.errors import Conflict, ForerankError, Invalid, StorageFull, Unavailable
from app.storage import StorageUnavailable

MEDIA_TYPE = "application/problem+json"
# A request may be wrong in thousands of places; an answer names this many; `error_count` says how many there are.
MOST_ERRORS = 20
LONGEST_DETAIL = 4000
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

log = structlog.stdlib.get_logger("forerank.api")


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(
        description="Where: a JSON pointer into the body, or `/query/name`, `/path/name`, `/header/name`.",
        examples=["/metrics/0"],
    )
    detail: str


class ProblemDocument(BaseModel):
    """Why a request was not fulfilled (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="The kind of problem.", examples=["urn:forerank:problem:invalid"])
    title: str = Field(description="The kind of problem, for people.")
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(description="What went wrong this time, and how to mend it.")
    errors: list[FieldProblem] | None = Field(
        None, max_length=MOST_ERRORS, description="The places in the request that are wrong."
    )
    error_count: int | None = Field(None, description="How many there are, when `errors` lists only the first of them.")
    request_id: str | None = Field(None, description="Name it when you ask the operator.")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may end in these statuses, in addition to those that every route has."""
    return {status: problem_response(status) for status in statuses}


def problem_response(status: int) -> dict[str, Any]:
    """How the OpenAPI document declares one of them."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    # Not the status's phrase, which differs from one version of Python to the next.
    return {"description": http_problem(status, "")["title"], "content": {MEDIA_TYPE: {"schema": schema}}}


def answer(
    status: int,
    document: Mapping[str, Any],
    *,
    request_id: str | None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response that carries a problem document."""
    content = dict(document)
    errors = content.get("errors", ())
    if len(errors) > MOST_ERRORS:
        content |= {"errors": errors[:MOST_ERRORS], "error_count": len(errors)}
    content["detail"] = content["detail"][:LONGEST_DETAIL]
    if request_id is not None:
        content["request_id"] = request_id
    return JSONResponse(content, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have the application answer each kind of exception so; what is left, the frame answers with 500."""
    app.add_exception_handler(ForerankError, _forerank)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(IntegrityError, _raced)
    app.add_exception_handler(DataError, _refused_value)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(PoolTimeout, _database_away)
    app.add_exception_handler(OSError, _no_room)
    app.add_exception_handler(StorageUnavailable, _storage_away)


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


async def _forerank(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ForerankError)  # noqa: S101 - Starlette chose the handler by the type
    return answer(error.status, error.problem(), request_id=_request_id(request), headers=error.headers)


async def _raced(request: Request, error: Exception) -> JSONResponse:
    # The rules look before they write; what the constraints still find was written in between by another request.
    log.warning("a constraint refused a write", exc_info=error)
    return await _forerank(request, Conflict("another request changed the same thing at this moment; send it again"))


async def _refused_value(request: Request, error: Exception) -> JSONResponse:
    # The schemas know the bounds of every column; what the database still refuses is a bound that they forgot.
    log.error("the database refused a value", exc_info=error)
    return await _forerank(request, Invalid("a value is longer or larger than what can be stored"))


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    if is_full(error):
        return await _disk_is_full(request, error)
    # One line: an outage hits every request, and a traceback costs the event loop more than the request did.
    log.error("the database does not answer", reason=str(getattr(error, "orig", None) or error).partition("\n")[0])
    return await _forerank(
        request, Unavailable("the database does not answer; try again soon", headers={"Retry-After": "5"})
    )


async def _storage_away(request: Request, error: Exception) -> JSONResponse:
    log.error("the shared storage cannot be used", reason=str(error))
    return await _forerank(
        request, Unavailable("the shared storage does not answer; try again soon", headers={"Retry-After": "5"})
    )


async def _no_room(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        raise error
    return await _disk_is_full(request, error)


async def _disk_is_full(request: Request, error: Exception) -> JSONResponse:
    log.error("there is no room for what was sent", reason=str(getattr(error, "orig", None) or error))
    return await _forerank(request, StorageFull("the server's disk is full; ask the operator to free some of it"))


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = error.errors()
    if any(entry["type"] == "json_invalid" for entry in errors):
        document = http_problem(400, f"the body is not JSON: {errors[0].get('ctx', {}).get('error', 'parse error')}")
        return answer(400, document, request_id=_request_id(request))
    if any(entry["loc"] == ("body",) and isinstance(entry.get("input"), bytes) for entry in errors):
        form = request.headers.get("content-type", "").startswith("multipart/form-data")
        hint = " (archives of images go to POST /v1/datasets/upload, arrays to POST /v1/scores)" if form else ""
        document = http_problem(415, f"this route reads JSON; send `Content-Type: application/json`{hint}")
        return answer(415, document, request_id=_request_id(request))
    places = [
        {"pointer": _pointer(entry["loc"]), "detail": str(entry["msg"]).removeprefix("Value error, ")}
        for entry in errors[:MOST_ERRORS]
    ]
    first = places[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    problem = Invalid(f"{first['pointer'] or 'the body'}: {first['detail']}{more}", errors=places).problem()
    return answer(422, problem, request_id=_request_id(request))


def _pointer(location: Sequence[Any]) -> str:
    parts = [pointer_part(part) for part in location]
    if parts and parts[0] == "body":
        parts = parts[1:]
    return "".join(f"/{part}" for part in parts)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    details = {
        404: f"there is no {request.scope['path']}; /docs lists what there is",
        405: f"{request.method} is not possible here; the header Allow says what is",
    }
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # The router names the methods of the first route of this path alone.
        path = getattr(request.scope.get("route"), "path_format", "")
        methods = request.app.openapi()["paths"].get(path, {})
        headers["Allow"] = ", ".join(sorted(method.upper() for method in methods)) or headers.get("Allow", "")
    phrase = http.HTTPStatus(error.status_code).phrase
    detail = error.detail if error.detail != phrase else details.get(error.status_code, phrase)
    return answer(
        error.status_code,
        http_problem(error.status_code, detail),
        request_id=_request_id(request),
        headers=headers,
    )


def http_problem(status: int, detail: str) -> dict[str, Any]:
    """A problem document for a status; titled as in the table of problems, if that knows the status."""
    phrase = http.HTTPStatus(status).phrase
    named = ((code, kind.title) for code, kind in KINDS.items() if kind.status == status)
    code, title = next(named, (phrase.lower().replace(" ", "-"), phrase))
    return {"type": problem_type(code), "title": title, "status": status, "detail": detail}
