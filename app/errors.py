"""One tree of errors. Each has a code of `app.contracts.problems`; raise them anywhere below a route."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from app.contracts.problems import KINDS, problem_type


class ForerankError(Exception):
    """An error that a user can understand and mend; `detail` names the fix.

    Attributes:
        errors: places in the request that are wrong, each ``{"pointer": "/metrics/0", "detail": "..."}``.
        headers: HTTP headers that belong to the answer.
    """

    code: ClassVar[str] = "internal-error"

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

    @property
    def status(self) -> int:
        """Of the HTTP answer."""
        return KINDS[self.code].status or 500

    def problem(self) -> dict[str, Any]:
        """The members of the problem document."""
        document: dict[str, Any] = {
            "type": problem_type(self.code),
            "title": KINDS[self.code].title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = self.errors
        return document


class BadRequest(ForerankError):
    """The request cannot be read at all."""

    code = "bad-request"


class Unauthenticated(ForerankError):
    """No key, or one that is not known."""

    code = "unauthenticated"


class Forbidden(ForerankError):
    """The key lacks the scope."""

    code = "forbidden"


class NotFound(ForerankError):
    """Nothing of that name, or nothing that the caller may see."""

    code = "not-found"


class Conflict(ForerankError):
    """The request is sound, but not in the present state."""

    code = "conflict"


class TooLarge(ForerankError):
    """More bytes, files or pixels than the limits allow."""

    code = "too-large"


class UnsupportedMediaType(ForerankError):
    """A content type that the route does not read."""

    code = "unsupported-media-type"


class Invalid(ForerankError):
    """The request can be read but cannot be right."""

    code = "invalid"

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """The error of one place in the request."""
        return cls(detail, errors=[{"pointer": pointer, "detail": detail}])


class TooManyRequests(ForerankError):
    """Over the rate limit; the header Retry-After says how long to wait."""

    code = "too-many-requests"


class Unavailable(ForerankError):
    """Something that the service needs does not answer."""

    code = "unavailable"


class QuotaExceeded(ForerankError):
    """The caller keeps as many bytes as the operator allows; the detail says what could be deleted."""

    code = "quota-exceeded"


class StorageFull(ForerankError):
    """The disk has no room for what was sent."""

    code = "storage-full"
