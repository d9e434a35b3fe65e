"""Receivers of messages, and what was sent to them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.contracts.base import Body, JsonObject, Name, Text
from app.contracts.states import DeliveryState
from app.schemas.base import Answer, OwnedAnswer

Url = Annotated[Text, Field(min_length=1, max_length=2000)]


class WebhookCreate(Body):
    """A receiver of messages."""

    model_config = Body.model_config | {
        "json_schema_extra": {"examples": [{"name": "morning", "url": "https://hooks.example.com/forerank"}]}
    }

    name: Name
    url: Url = Field(description="Where messages are posted; https, and a public host unless the operator allows more.")


class WebhookRotate(Body):
    """How a secret is replaced."""

    model_config = Body.model_config | {"json_schema_extra": {"examples": [{"overlap_hours": 24}]}}

    overlap_hours: float = Field(24, ge=0, le=24 * 30, description="How long messages carry the old signature too.")


class WebhookAnswer(OwnedAnswer):
    """A receiver as it stands."""

    url: str
    previous_secret_until: datetime | None = Field(description="Until then messages carry two signatures.")


class WebhookSecretAnswer(WebhookAnswer):
    """A receiver with the secret that was just made; it is shown this once."""

    secret: str = Field(description="Verify messages with it, as Standard Webhooks says.")


class AttemptAnswer(Answer):
    """One try to deliver a message."""

    number: int
    at: datetime
    status: int | None = Field(description="HTTP status of the receiver's answer; null: there was none.")
    problem: str | None = Field(description="Why it does not count; null: delivered.")
    seconds: float


class DeliveryAnswer(Answer):
    """A message and its attempts."""

    id: str = Field(description="The header `webhook-id`; the same at every attempt.")
    webhook_id: str
    type: str
    state: DeliveryState
    body: JsonObject = Field(description="What is sent.")
    next_attempt_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    attempts: list[AttemptAnswer]
