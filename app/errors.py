"""One tree of errors. Each knows its HTTP status and its problem type (RFC 9457); raise them anywhere below a route."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self


class ForerankError(Exception):
    """An error that a user can understand and mend; `detail` names the fix.

    Attributes:
        errors: places in the request that are wrong, each ``{"pointer": "/metrics/0", "detail": "..."}``.
        headers: HTTP headers that belong to the answer.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong on the server"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = [dict(error) for error in errors]
        self.headers = dict(headers or {})

    def problem(self) -> dict[str, Any]:
        """The members of the problem document; also what is stored with a row that failed."""
        document: dict[str, Any] = {
            "type": problem_type(self.code),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = self.errors
        return document


def problem_type(code: str) -> str:
    """The URI of a kind of problem."""
    return f"urn:forerank:problem:{code}"


class BadRequest(ForerankError):
    """The request cannot be read at all."""

    status = 400
    code = "bad-request"
    title = "The request cannot be read"


class Unauthenticated(ForerankError):
    """No key, or one that is not known."""

    status = 401
    code = "unauthenticated"
    title = "A valid API key is needed"


class Forbidden(ForerankError):
    """The key lacks the scope."""

    status = 403
    code = "forbidden"
    title = "The API key does not allow this"


class NotFound(ForerankError):
    """Nothing of that name, or nothing that the caller may see."""

    status = 404
    code = "not-found"
    title = "There is no such thing"


class TooSlow(ForerankError):
    """The body did not arrive in time."""

    status = 408
    code = "too-slow"
    title = "The request came too slowly"


class Conflict(ForerankError):
    """The request is sound, but not in the present state."""

    status = 409
    code = "conflict"
    title = "The present state does not allow this"


class TooLarge(ForerankError):
    """More bytes, files or pixels than the limits allow."""

    status = 413
    code = "too-large"
    title = "The request is larger than the limit"


class UnsupportedMediaType(ForerankError):
    """A content type that the route does not read."""

    status = 415
    code = "unsupported-media-type"
    title = "The content type is not supported"


class Invalid(ForerankError):
    """The request can be read but cannot be right."""

    status = 422
    code = "invalid"
    title = "The request is not valid"

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """The error of one place in the request."""
        return cls(detail, errors=[{"pointer": pointer, "detail": detail}])


class TooManyRequests(ForerankError):
    """Over the rate limit; the header Retry-After says how long to wait."""

    status = 429
    code = "too-many-requests"
    title = "Too many requests"


class Unavailable(ForerankError):
    """Something that the service needs does not answer."""

    status = 503
    code = "unavailable"
    title = "The service is not ready"


def failure(code: str, detail: str) -> dict[str, str]:
    """Why a data set, a model or a ranking failed: a problem document without an HTTP status of its own."""
    titles = {
        "image-problem": "The images could not be read",
        "model-problem": "The model could not be used",
        "extraction-problem": "The forward pass failed",
        "metric-problem": "The metric cannot be computed",
        "internal-error": "Something went wrong on the server",
    }
    return {
        "type": problem_type(code),
        "title": titles.get(code, code.replace("-", " ").capitalize()),
        "detail": detail,
    }
