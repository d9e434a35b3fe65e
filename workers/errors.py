"""What can go wrong beside the device, as data: every problem has a stable code and a sentence that names the fix."""

from typing import Any


class Problem(Exception):
    """An expected failure. ``code`` is stable, ``detail`` is for a person; both go into the row of the failed item."""

    code = "problem"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def as_dict(self) -> dict[str, str]:
        """``{"code": ..., "detail": ...}``, the form in which a problem crosses processes."""
        return {"code": self.code, "detail": self.detail}


class DatasetRejected(Problem):
    """The data set cannot be used as it is."""

    code = "dataset-rejected"


class DatasetChanged(Problem):
    """A file is no longer the one that was inspected."""

    code = "dataset-changed"


class ModelRefused(Problem):
    """The model's specification or its weights are not sound."""

    code = "model-refused"


class ModelUnavailable(Problem):
    """The weights cannot be reached from this machine."""

    code = "model-unavailable"


class ExtractionFailed(Problem):
    """The model was loaded, but did not give usable evidence."""

    code = "extraction-failed"


class EvidenceMissing(Problem):
    """Evidence was evicted or damaged after it was planned with: extract it again."""

    code = "evidence-missing"


class StorageFull(Problem):
    """The quota or the disk has no room."""

    code = "storage-full"


class Stopped(Problem):
    """The caller asked to stop."""

    code = "stopped"


class TimeLimitExceeded(Problem):
    """The extractor was killed at its time limit."""

    code = "time-limit-exceeded"


class ExtractorDied(Problem):
    """The extractor's process ended by itself."""

    code = "extractor-died"


def raise_problem(result: dict[str, Any]) -> dict[str, Any]:
    """The result that a process answered, or the ``Problem`` that it answered in its place."""
    if "problem" in result:
        problem = Problem(result["problem"]["detail"])
        problem.code = result["problem"]["code"]
        raise problem
    return result
