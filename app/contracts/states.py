"""States of what is stored, by the names that users see."""

from enum import StrEnum


class ResourceState(StrEnum):
    """Of a data set or a model."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class RankingState(StrEnum):
    """Of a ranking."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({RankingState.SUCCEEDED, RankingState.FAILED, RankingState.CANCELLED})


class ModelRunState(StrEnum):
    """Of one model in one ranking."""

    QUEUED = "queued"
    EXTRACTING = "extracting"
    SCORING = "scoring"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TrialState(StrEnum):
    """Of one model's trial in a ranking."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    EXCLUDED = "excluded"
    CUT_OFF = "cut_off"
    FAILED = "failed"


class RunPurpose(StrEnum):
    """What a run is for: to choose a learning rate, or to be tested."""

    RATE = "rate"
    TEST = "test"


class ScheduleState(StrEnum):
    """Of a schedule."""

    ACTIVE = "active"
    PAUSED = "paused"
    STOPPED = "stopped"


class RunState(StrEnum):
    """Of one run of a schedule."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (RunState.QUEUED, RunState.RUNNING)


class DeliveryState(StrEnum):
    """Of a message to a receiver."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
