"""What can go wrong in a worker, as data: every problem has a stable code and a sentence that names the fix."""

from app.processes.errors import Problem, ProcessDied, Stopped, Stopping, TimeLimitExceeded

__all__ = [
    "DatasetChanged",
    "DatasetRejected",
    "EvidenceMissing",
    "ExtractionFailed",
    "FineTuningFailed",
    "ModelRefused",
    "ModelUnavailable",
    "Problem",
    "ProcessDied",
    "Stopped",
    "Stopping",
    "StorageFull",
    "TimeLimitExceeded",
]


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


class FineTuningFailed(Problem):
    """The model was loaded, but could not be fine-tuned on these images."""

    code = "fine-tuning-failed"


class StorageFull(Problem):
    """The quota or the disk has no room."""

    code = "storage-full"
