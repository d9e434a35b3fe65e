"""A full fine-tuning: which models, on which part of the images, how often, and at which learning rates."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.contracts.base import Body, Contract, Name, Reference
from app.contracts.question import SampleChoice
from app.contracts.tasks import TaskName
from app.contracts.trials import ImageChoice

RateMultiple = Annotated[float, Field(gt=0, le=100)]
MODELS_AT_ONCE = 100
# Of the training images, held out by the runs that try learning rates.
VALIDATION_SHARE = 0.25


class FineTuningChoice(ImageChoice):
    """How models are fine-tuned and tested; the same for all of them."""

    test_share: float = Field(
        0.25, ge=0.05, le=0.9, description="Share of the images that no run is trained on; the same for all models."
    )
    epochs: int = Field(8, ge=1, le=500)
    seeds: int = Field(1, ge=1, le=20, description="Runs of each model; each has its own order of the images.")
    rate_multiples: list[RateMultiple] = Field(
        default_factory=lambda: [1.0, 0.3],
        min_length=1,
        max_length=3,
        description="Learning rates to try, as multiples of the usual one of the kind of network. Each is tested on a "
        "quarter of the training images, and the best is recommended and used; a single one is used as it is.",
    )
    shift: float = Field(
        0.08, ge=0, le=0.5, description="Each image moves by up to this share of its side in every epoch."
    )
    weights: bool = Field(False, description="Keep the fine-tuned weights as safetensors, to be downloaded.")


class FineTuneCreate(FineTuningChoice):
    """Fine-tune models, or those that a ranking advises, and test them on images held out."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "name": "tuned",
                    "target": "digits",
                    "models": ["mobilenetv2_100.tv_in1k"],
                    "sample": {"max_samples": 60},
                    "epochs": 2,
                    "rate_multiples": [1.0],
                    "weights": True,
                }
            ]
        }
    }

    target: Reference | None = Field(None, description="Id or name of a data set; null: that of the ranking.")
    models: list[Reference] | None = Field(
        None, min_length=1, max_length=MODELS_AT_ONCE, description="Ids or names; null: those that the ranking advises."
    )
    ranking: Reference | None = Field(None, description="Id or name of a ranking whose advice is followed.")
    sample: SampleChoice = SampleChoice()
    priority: Literal["high", "normal", "low"] = "normal"
    remember: bool = Field(True, description="Let later rankings of yours, on other targets, learn from the outcome.")
    name: Name | None = None
    shared: bool = False

    @model_validator(mode="after")
    def _whole(self) -> "FineTuneCreate":
        if self.ranking is None and (self.target is None or self.models is None):
            raise ValueError("give `target` and `models`, or a `ranking` that says them")
        if len(set(self.rate_multiples)) < len(self.rate_multiples):
            raise ValueError("`rate_multiples` names one rate twice")
        return self


class FineTuningRequest(FineTuningChoice):
    """The question with names resolved.

    Attributes:
        target: the target's name when it was asked.
        models: ids.
        names: of the models, in the same order.
    """

    task: TaskName = "classification"
    target: str
    models: tuple[str, ...]
    names: tuple[str, ...]
    sample: SampleChoice
    remember: bool


class FineTuningSplit(Contract):
    """How many images were used for what.

    Attributes:
        fingerprint: of the data set's content.
    """

    train: int
    test: int
    classes: int
    fingerprint: str
