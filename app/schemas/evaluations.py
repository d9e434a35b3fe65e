"""Evaluations: how good a ranking's scores and its advice were."""

from datetime import datetime

from pydantic import Field

from app.contracts.evaluations import ScoreEvaluation, ScoreTest
from app.schemas.base import Answer


class EvaluationAnswer(Answer):
    """Each score against the accuracies that models reached when they were fine-tuned."""

    id: str
    ranking_id: str
    created_at: datetime
    accuracies: dict[str, float] = Field(description="Model id -> accuracy.")
    remembered: bool
    scores: dict[str, ScoreEvaluation] = Field(
        description="By metric, and `consensus`, `recommendation`, `trial`, `parameters`, `gmacs`, `top1` (ImageNet), "
        "`history` (earlier fine-tunings, this target left out) and `random`; one that fewer than two models have is "
        "left out. Regrets are points of accuracy."
    )
    tests: list[ScoreTest] = Field(
        description="The recommendation against each other score, over the same resampled models."
    )


class EvaluationsAnswer(Answer):
    """The evaluations of a ranking, newest first."""

    items: list[EvaluationAnswer]
