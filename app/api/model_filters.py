"""What a model has to be, as query parameters."""

from typing import Annotated

from fastapi import Depends, Query

from app.contracts.base import Text
from app.contracts.zoos import ModelFilter

Choice = Annotated[Text, Query(min_length=1, max_length=300)]
Choices = Annotated[list[Choice] | None, Query(max_length=100)]


def _filter(
    search: Annotated[Text | None, Query(min_length=1, max_length=100, description="Part of the name.")] = None,
    family: Annotated[Choices, Query(description="timm's modules, such as `resnet`; any of them.")] = None,
    tag: Annotated[Choices, Query(description="What follows the dot in the name; any of them.")] = None,
    source_dataset: Annotated[Choices, Query(description="What the model was trained on last; any of them.")] = None,
    license: Annotated[Choices, Query(description="Such as `apache-2.0`, in any case; any of them.")] = None,
    min_parameters: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    max_parameters: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    max_gmacs: Annotated[
        float | None, Query(ge=0, allow_inf_nan=False, description="Billions of multiply-adds.")
    ] = None,
    min_input_size: Annotated[int | None, Query(ge=1, le=2**31, description="Pixels.")] = None,
    max_input_size: Annotated[int | None, Query(ge=1, le=2**31, description="Pixels.")] = None,
    max_weight_bytes: Annotated[int | None, Query(ge=0, le=2**62, description="Of the weights in 32 bits.")] = None,
    min_images_per_second: Annotated[
        float | None, Query(ge=0, allow_inf_nan=False, description="Measured by this deployment.")
    ] = None,
    min_top1: Annotated[
        float | None, Query(ge=0, le=100, description="Percent on ImageNet, as timm publishes it.")
    ] = None,
) -> ModelFilter:
    return ModelFilter(**locals())


ModelFilterDep = Annotated[ModelFilter, Depends(_filter)]
