"""Scores of arrays that a client sends."""

from pydantic import Field

from app.contracts.base import JsonObject
from app.schemas.base import Answer, Problem


class SentScore(Answer):
    """One metric of the arrays."""

    metric: str
    parameters: JsonObject
    value: float | None = Field(description="Higher is better; null with a problem.")
    seconds: float
    warnings: list[str] = Field(description="What to read before trusting the value.")
    details: JsonObject
    problem: Problem | None = Field(description="Why the metric cannot be computed on these arrays.")


class ScoresAnswer(Answer):
    """All metrics, in the order of the request."""

    samples: int
    arrays: dict[str, list[int]] = Field(description="The shapes of what was sent.")
    scores: list[SentScore]
