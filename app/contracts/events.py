"""What happens in a ranking, as its followers are told."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.base import Contract, JsonObject


class Event(Contract):
    """Something that happened. `ranking_id` and `at` are columns of the stored event; the rest is its data."""

    type: ClassVar[str]

    ranking_id: str
    at: datetime | None = Field(None, description="When it happened; null in an `end` that is told again.")

    def data(self) -> JsonObject:
        """What is stored in addition to the columns."""
        return self.model_dump(mode="json", exclude={"ranking_id", "at"})


class StateEvent(Event):
    """The ranking waits, or a worker has begun it."""

    type = "state"

    state: Literal["queued", "running"]


class ModelEvent(Event):
    """A model went to another state or stage, or further within its stage."""

    type = "model"

    model_id: str
    state: Literal["queued", "extracting", "scoring", "succeeded", "failed", "cancelled"]
    stage: str | None = Field(description="What is being done: `load`, `decode`, `forward`, `write`, and their like.")
    done: int = Field(description="Of `total` images or scores of the stage.")
    total: int


class EndEvent(Event):
    """The ranking has ended, and the stream with it."""

    type = "end"

    state: Literal["succeeded", "failed", "cancelled", "deleted"]


EVENTS: Mapping[str, type[Event]] = MappingProxyType({kind.type: kind for kind in (StateEvent, ModelEvent, EndEvent)})
