"""Zoos: what a model has to be, and what of a list could not be had."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.contracts.base import Body, Contract, Text
from app.contracts.problems import ProblemDocument

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


class RefusedModel(Contract):
    """A name of a list that could not be registered, and why."""

    name: str
    problem: ProblemDocument
