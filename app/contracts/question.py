"""The question: which models suit a target best, by which metrics, and what else is to be said of them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.contracts.base import Body, JsonObject, Name, Reference, Text
from app.contracts.trials import TrialChoice

# Those whose advice was best against fine-tuned accuracies; docs/truth.md.
DEFAULT_METRICS = ["nce", "logme", "tmi"]


MetricName = Annotated[Text, Field(min_length=1, max_length=64)]


class MetricChoice(Body):
    """A metric with parameters other than its defaults (see `GET /v1/metrics`)."""

    name: MetricName
    parameters: JsonObject = Field(default_factory=dict)


class SampleChoice(Body):
    """Which images of the target to use: a stratified sample, the same for every model."""

    max_samples: int | None = Field(None, ge=1, le=10_000_000)
    max_samples_per_class: int | None = Field(None, ge=1, le=10_000_000)
    seed: int = Field(0, ge=0, le=2**32 - 1)


class IntervalChoice(Body):
    """How sure: resampled scores, from which intervals and the chance to come first on another sample are taken."""

    resamples: int | None = Field(
        None, ge=10, le=1000, description="Of each score; null: 200 where they are cheap, 20 where each costs a score."
    )
    level: float = Field(0.9, gt=0, lt=1, description="Share of the resamples inside the interval.")
    seed: int = Field(0, ge=0, le=2**32 - 1)


class TermWeights(Body):
    """How much each of OSBORN's terms counts."""

    domain: float = Field(1.0, ge=0, le=1e6)
    task: float = Field(1.0, ge=0, le=1e6)
    cohesion: float = Field(1.0, ge=0, le=1e6)


Members = Annotated[list[Reference], Field(min_length=1, max_length=20)]


class EnsembleReading(Body):
    """How an ensemble is scored. What is left out follows the preset."""

    method: Literal["osborn", "ms_leep", "e_leep", "held_out"] = Field(
        "e_leep",
        description="`held_out`: greedy selection by what linear probes of the models' features predict for images "
        "that they were not fitted to; it reads `size` alone.",
    )
    preset: Literal["default", "scale_free", "paper"] = Field(
        "default",
        description="`paper`: every reading as in the publication; `scale_free`: W_D on features divided by the spread "
        "of the source sample, to compare models of different width or family.",
    )
    weights: TermWeights = TermWeights()
    standardize: Literal["pool", "ensembles", "none"] | None = Field(
        None, description="What the terms are standardised over."
    )
    cohesion: Literal["symmetric", "ordered", "directed"] | None = Field(None, description="How W_C of a pair is read.")
    near_copies: Literal["exclude", "allow"] | None = Field(
        None, description="Whether an ensemble may hold two models that predict (nearly) the same."
    )
    missing: Literal["drop_term", "drop_models"] = Field(
        "drop_term",
        description="When some models lack a term: leave the term out for all, or leave those models out.",
    )
    max_parameters: int | None = Field(
        None, ge=1, le=2**63 - 1, description="Budget: parameters of all members together."
    )
    top: int = Field(10, ge=1, le=100, description="How many ensembles to list.")


class EnsembleChoice(EnsembleReading):
    """Which ensembles to look for."""

    size: int = Field(3, ge=2, le=20, description="Members of an ensemble.")
    search: Literal["auto", "greedy", "exact", "local"] | None = Field(
        None, description="`auto`: exact while there are few ensembles, else by swaps. Default: that of the preset."
    )

    @model_validator(mode="after")
    def _budget_of_terms(self) -> "EnsembleChoice":
        if self.method == "held_out" and self.max_parameters is not None:
            raise ValueError("`max_parameters` does not go with the method `held_out`; leave one of them out")
        return self


Layer = Annotated[Text, Field(min_length=1, max_length=200)]


class RankingOptions(Body):
    """How models are ranked, whatever the target and the models are."""

    metrics: list[MetricName | MetricChoice] = Field(
        default_factory=lambda: list[MetricName | MetricChoice](DEFAULT_METRICS), min_length=1, max_length=50
    )
    sample: SampleChoice = SampleChoice()
    priority: Literal["high", "normal", "low"] = "normal"
    layers: Annotated[list[Layer], Field(max_length=50, fail_fast=True)] | Literal["stages"] = Field(
        default_factory=list,
        description="Layers to rank inside each model, by module name; `stages`: all that timm names.",
    )
    reference: Reference | None = Field(
        None, description="Data set for PED's reference features; default: the model's own source sample."
    )
    intervals: IntervalChoice | None = Field(
        # A factory, for generators of clients know no default of a union that is an object.
        default_factory=IntervalChoice,
        description="How sure each score is; default: by intervals of the level 0.9; null: no resampling.",
    )
    trial: TrialChoice | None = Field(
        None, description="Fine-tune each model briefly too, and advise by what it learns; null: no trial."
    )
    history: bool = Field(True, description="Let the advice use accuracies that you reported for other targets.")
    ensembles: list[EnsembleChoice] = Field(default_factory=list, max_length=20)


class RankingCreate(RankingOptions):
    """The question: which of these models suit this target best?"""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "target": "digits",
                    "zoo": "offline",
                    "metrics": ["logme", "tmi", "leep"],
                    "sample": {"max_samples": 300},
                }
            ]
        }
    }

    target: Reference = Field(description="Id or name of a data set.")
    models: list[Reference] | None = Field(None, min_length=1, max_length=5000, description="Ids or names of models.")
    zoo: Reference | None = Field(None, description="Id or name of a zoo, instead of `models`.")
    given_ensembles: list[Members] = Field(
        default_factory=list,
        max_length=100,
        description="Ensembles of your own, to be scored along with the chosen ones.",
    )
    name: Name | None = None
    shared: bool = False

    @model_validator(mode="after")
    def _one_pool(self) -> "RankingCreate":
        if (self.models is None) == (self.zoo is None):
            raise ValueError("give either `models` or `zoo`")
        return self
