"""What models really reached, and how good the advice was."""

from typing import Annotated

from pydantic import Field

from app.contracts.base import Body, Contract, Reference

Accuracy = Annotated[float, Field(ge=0, le=1)]


class EvaluationCreate(Body):
    """Accuracies after fine-tuning, of some or all models of a ranking."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [{"accuracies": {"tf_efficientnet_lite0.in1k": 0.969, "mobilenetv2_100.tv_in1k": 0.966}}]
        }
    }

    accuracies: dict[Reference, Accuracy] = Field(
        min_length=2,
        max_length=5000,
        description="Model (id or name) -> accuracy on images not trained on, from 0 to 1.",
    )
    remember: bool = Field(True, description="Let later rankings of yours, on other targets, learn from it.")
    resamples: int = Field(500, ge=0, le=2000, description="Of the intervals; 0 for none.")


class MeasureValue(Contract):
    """A measure with its 95 % interval over the models; null where it has none."""

    value: float | None
    low: float | None
    high: float | None


class ScoreEvaluation(Contract):
    """One score against the accuracies. Correlations are between -1 and 1, regrets in points of accuracy."""

    models: int
    weighted_kendall: MeasureValue
    kendall: MeasureValue
    spearman: MeasureValue
    pearson: MeasureValue
    regret_1: MeasureValue
    regret_3: MeasureValue
    rel_1: MeasureValue
    rel_3: MeasureValue


class ScoreTest(Contract):
    """The recommendation against another score, over the same resampled models.

    Attributes:
        difference: of the measure; positive is in the recommendation's favour.
        p_value: two-sided; one target can hardly show a difference.
    """

    measure: str
    against: str
    difference: float
    low: float
    high: float
    p_value: float
