"""Models and zoos."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, model_validator

from app.contracts.base import Body, JsonObject, Name, Reference, Text
from app.contracts.catalog import CatalogDetails
from app.contracts.models import InputConfiguration, ModelInput, ModelSpec
from app.contracts.states import ResourceState
from app.schemas.base import Answer, OwnedAnswer, Problem


class ModelCreate(Body):
    """A model by its timm name, or a weights file with the architecture that it fits."""

    model_config = Body.model_config | {
        "json_schema_extra": {"examples": [{"model": "resnet18.a1_in1k", "source_dataset": "imagenet-1k"}]}
    }

    model: Reference | None = Field(
        None,
        description="A timm name with its tag (`resnet50.a1_in1k`), `hf-hub:owner/name@revision`, or "
        "`local-dir:PATH` of a folder laid out like the hub's, under `FORERANK_MODEL_ROOTS`.",
    )
    weights: Text | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Absolute path of a safetensors file under `FORERANK_MODEL_ROOTS`; it fits `architecture`.",
    )
    architecture: Text | None = Field(None, min_length=1, max_length=200, description="timm's name of the network.")
    arguments: JsonObject | None = Field(
        None, description="Keyword arguments of `timm.create_model`.", examples=[{"pad_type": "same", "bn_eps": 0.001}]
    )
    num_classes: int | None = Field(
        None, ge=0, le=1_000_000, description="Outputs of the classifier; default: what the weights hold."
    )
    input: ModelInput | None = None
    name: Annotated[Name, Field(max_length=300)] | None = Field(None, description="Default: what `model` says.")
    source_dataset: Text | None = Field(
        None,
        min_length=1,
        max_length=300,
        description="What the model was trained on: a free name such as `imagenet-1k`, or the id or name of a "
        "registered data set. A data set registered as `sample_of` that name serves as its source sample.",
    )
    license: Text | None = Field(None, min_length=1, max_length=300)
    shared: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelCreate":
        if (self.model is None) == (self.weights is None):
            raise ValueError("give either `model`, or `weights` with `architecture`")
        if self.weights is not None and self.architecture is None:
            raise ValueError("`weights` need the `architecture` that they fit")
        if self.weights is not None and self.name is None:
            raise ValueError("`weights` need a `name`")
        if self.model is not None and (
            self.architecture or self.arguments or self.num_classes is not None or self.input
        ):
            raise ValueError(
                "`architecture`, `arguments`, `num_classes` and `input` belong to `weights`, not to `model`"
            )
        return self


class ModelChange(Body):
    """What may change after registration."""

    model_config = Body.model_config | {"json_schema_extra": {"examples": [{"source_dataset": "imagenet-1k"}]}}

    source_dataset: Text | None = Field(None, min_length=1, max_length=300)
    shared: bool | None = None


class ModelAnswer(OwnedAnswer):
    """A model as it stands."""

    spec: ModelSpec = Field(description="Where it comes from.")
    source_dataset: str | None
    license: str | None
    state: ResourceState
    problem: Problem | None
    digest: str | None = Field(description="SHA-256 of the weights: the same weights, the same value.")
    architecture: str | None
    family: str | None = Field(description="timm's module of the architecture.")
    tag: str | None
    parameters: int | None = Field(description="Number of weights.")
    gmacs: float | None = Field(description="Billions of multiply-adds of one image.")
    weight_bytes: int | None = Field(description="Of the weights in 32 bits.")
    input_size: int | None = Field(description="Pixels.")
    top1: float | None = Field(description="Percent on ImageNet, as timm publishes it.")
    images_per_second: float | None = Field(description="Measured in the last forward pass on this deployment.")
    feature_dimension: int | None
    source_classes: int | None = Field(description="Outputs as probabilities; 0 without a classifier.")
    input: InputConfiguration | None = Field(description="Input size, normalisation and crop.")
    layers: list[str] | None = Field(description="Stages that a ranking may ask for in `layers`.")
    inspected_at: datetime | None


class CatalogEntry(Answer):
    """A model that the workers' timm can build from its name. What is not known is null."""

    name: str
    architecture: str
    family: str = Field(description="timm's module of the architecture.")
    tag: str = Field(description="The recipe and the data, as timm writes them.")
    parameters: int | None = Field(description="Number of weights.")
    gmacs: float | None = Field(description="Billions of multiply-adds of one image of the published input size.")
    weight_bytes: int | None = Field(description="Of the weights in 32 bits.")
    input_size: int | None = Field(description="Pixels.")
    source_classes: int | None
    license: str | None
    source_dataset: str | None = Field(description="What the weights were trained on last, as the tag says.")
    training_data: list[str] = Field(description="All data sets that the tag names, first to last.")
    top1: float | None = Field(description="Percent on ImageNet, as timm's results table states it.")
    details: CatalogDetails = Field(description="Among it `sources`: where each fact comes from.")
