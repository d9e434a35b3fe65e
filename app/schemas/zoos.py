"""Zoos: a list of models, or what a model has to be."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.contracts.base import LONGEST_LIST, Body, Name, Reference, Text
from app.db.tables import ResourceState
from app.schemas.base import Answer, OwnedAnswer, Problem

Choices = Annotated[list[Annotated[Text, Field(min_length=1, max_length=300)]], Field(max_length=100)]


class ModelFilter(Body):
    """What a model has to be. All that is given must hold; a fact that is not known fulfils no bound on it."""

    search: Annotated[Text, Field(min_length=1, max_length=100)] | None = Field(None, description="Part of the name.")
    family: Choices | None = Field(
        None, description="timm's modules, such as `resnet` or `vision_transformer`; any of them."
    )
    tag: Choices | None = Field(None, description="What follows the dot in the name, such as `a1_in1k`; any of them.")
    source_dataset: Choices | None = Field(None, description="What the model was trained on last; any of them.")
    license: Choices | None = Field(None, description="Such as `apache-2.0`, in any case; any of them.")
    min_parameters: int | None = Field(None, ge=0)
    max_parameters: int | None = Field(None, ge=0)
    max_gmacs: float | None = Field(None, ge=0, description="Billions of multiply-adds of one image.")
    min_input_size: int | None = Field(None, ge=1, description="Pixels.")
    max_input_size: int | None = Field(None, ge=1, description="Pixels.")
    max_weight_bytes: int | None = Field(None, ge=0, description="Bytes of the weights in 32 bits.")
    min_images_per_second: float | None = Field(
        None, ge=0, description="Measured by this deployment in the last forward pass; registered models only."
    )
    min_top1: float | None = Field(None, ge=0, le=100, description="Percent on ImageNet, as timm publishes it.")


class ZooQuery(ModelFilter):
    """Which models a zoo holds, asked anew each time that a ranking starts."""

    source: Literal["registered", "timm", "all"] = Field(
        "registered",
        description="`timm`: of the catalog, and what is not registered yet is registered; `all`: both.",
    )
    limit: int = Field(200, ge=1, le=5000, description="Registered models first, then the catalog, by name.")

    @model_validator(mode="after")
    def _measured(self) -> "ZooQuery":
        if self.source == "timm" and self.min_images_per_second is not None:
            raise ValueError("the catalog has no measured speeds; ask for `min_images_per_second` of registered models")
        return self


class ZooCreate(Body):
    """A named set of models, listed or found by a query."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {"name": "small", "models": ["mobilenetv2_100.tv_in1k", "tf_efficientnet_lite0.in1k"]},
                {"name": "light", "query": {"max_parameters": 10_000_000, "license": ["apache-2.0"]}},
            ]
        }
    }

    name: Name
    models: list[Reference] | None = Field(
        None,
        min_length=1,
        max_length=LONGEST_LIST,
        description="Ids or names of registered models; a name that is not registered is registered, as "
        "`POST /v1/models` would.",
    )
    query: ZooQuery | None = Field(None, description="In place of `models`.")
    shared: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> "ZooCreate":
        if (self.models is None) == (self.query is None):
            raise ValueError("give either `models` or `query`")
        return self


class ZooMember(Answer):
    """A model of a zoo."""

    id: str
    name: str
    state: ResourceState
    problem: Problem | None = Field(description="Why the model cannot be used.")


class Unavailable(Answer):
    """A name that could not be registered."""

    name: str
    problem: Problem


class ZooAnswer(OwnedAnswer):
    """A zoo with its models; of a query, those that it finds now."""

    query: ZooQuery | None
    models: list[ZooMember]
    unavailable: list[Unavailable] = Field(description="What could not be registered, and why.")
    missing: int = Field(description="Models of the catalog that the query finds and the next ranking will register.")
