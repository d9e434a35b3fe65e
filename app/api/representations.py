"""In which form an answer leaves, and whether it has to leave again."""

from hashlib import sha256
from typing import Any

from fastapi import Request, Response, status
from pydantic import BaseModel

JSON = "application/json"
CSV = "text/csv"

FINAL_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "ETag": {"description": "Once the ranking has ended: of this very content.", "schema": {"type": "string"}}
        }
    },
    304: {"description": "What `If-None-Match` names is still right."},
}


class CsvResponse(Response):
    """Declares a route that answers with CSV."""

    media_type = CSV


class MarkdownResponse(Response):
    """Declares a route that answers with Markdown."""

    media_type = "text/markdown"


def represent(request: Request, answer: BaseModel, *, final: bool) -> Response:
    """An answer as JSON."""
    return _conditional(request, answer.model_dump_json().encode(), JSON, final=final)


def represent_csv(request: Request, table: str, *, final: bool) -> Response:
    """A table as CSV."""
    return represent_text(request, table, CSV, final=final)


def represent_text(request: Request, text: str, media_type: str, *, final: bool) -> Response:
    """Text of some kind, in UTF-8."""
    return _conditional(request, text.encode(), f"{media_type}; charset=utf-8", final=final)


def _conditional(request: Request, content: bytes, media_type: str, *, final: bool) -> Response:
    """The content, or 304 if the client has it; what may still change is never compared."""
    if not final:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-store"})
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if _names(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _names(header: str, tag: str) -> bool:
    candidates = [candidate.strip().removeprefix("W/") for candidate in header.split(",")]
    return "*" in candidates or tag in candidates


def quality(accept: str, media_type: str) -> float:
    """The weight of a media type in `Accept`: that of the most specific range that covers it (RFC 9110, 12.5.1)."""
    best = (-1, 0.0)
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        ranges = {media_type: 2, f"{media_type.split('/')[0]}/*": 1, "*/*": 0}
        if kind in ranges:
            best = max(best, (ranges[kind], _weight(parameters)))
    return best[1]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
