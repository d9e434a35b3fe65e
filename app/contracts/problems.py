"""What can go wrong, on either side: one table of codes, and the document that a user reads (RFC 9457)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from app.contracts.base import Contract


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem; ``status`` is that of an HTTP answer with it, None if it is only ever stored with a row."""

    title: str
    status: int | None = None


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "bad-request": Kind("The request cannot be read", 400),
        "unauthenticated": Kind("A valid API key is needed", 401),
        "forbidden": Kind("The API key does not allow this", 403),
        "not-found": Kind("There is no such thing", 404),
        "too-slow": Kind("The request came too slowly", 408),
        "conflict": Kind("The present state does not allow this", 409),
        "too-large": Kind("The request is larger than the limit", 413),
        "unsupported-media-type": Kind("The content type is not supported", 415),
        "invalid": Kind("The request is not valid", 422),
        "too-many-requests": Kind("Too many requests", 429),
        "internal-error": Kind("Something went wrong on the server", 500),
        "unavailable": Kind("The service is not ready", 503),
        "image-problem": Kind("The images could not be read"),
        "model-problem": Kind("The model could not be used"),
        "extraction-problem": Kind("The forward pass failed"),
        "metric-problem": Kind("The metric cannot be computed"),
        "dataset-rejected": Kind("The data set cannot be used"),
        "dataset-changed": Kind("The data set has changed since its inspection"),
        "model-refused": Kind("The model cannot be used"),
        "model-unavailable": Kind("The weights cannot be reached"),
        "extraction-failed": Kind("The model gave no usable evidence"),
        "evidence-missing": Kind("Evidence is not in the feature store any more"),
        "fine-tuning-failed": Kind("The model could not be fine-tuned"),
        "quota-exceeded": Kind("The storage quota is used up", 507),
        "storage-full": Kind("There is no room for the data", 507),
        "storage-unavailable": Kind("The shared storage cannot be used", 503),
        "stopped": Kind("The work was stopped"),
        "time-limit-exceeded": Kind("The work took longer than its limit"),
        "arrays-refused": Kind("The arrays cannot be scored"),
        "extractor-died": Kind("The process that did the work ended by itself"),
    }
)


class ProblemDocument(Contract):
    """Why something failed."""

    type: str
    title: str
    detail: str


def problem_type(code: str) -> str:
    """The URI of a kind of problem."""
    return f"urn:forerank:problem:{code}"


def failure(code: str, detail: str) -> ProblemDocument:
    """Why a data set, a model or a ranking failed: a problem document without an HTTP status of its own."""
    return ProblemDocument(type=problem_type(code), title=KINDS[code].title, detail=detail)
