"""What workers publish of the models that their timm can build."""

from pydantic import Field

from app.contracts.base import Contract


class CatalogDetails(Contract):
    """What no search asks for."""

    input_size: tuple[int, ...] = Field((), description="Channels, height, width.")
    description: str | None = Field(None, description="As timm publishes it.")
    sources: dict[str, str] = Field(default_factory=dict, description="Fact -> where it comes from.")
    top1_input_size: int | None = Field(None, description="Pixels of the images on which `top1` was measured.")


class PublishedModel(Contract):
    """One name of timm; None: not known.

    Attributes:
        weight_bytes: of the weights in 32 bits.
        input_size: width in pixels.
        training_data: the data sets that the tag names, first to last.
        top1: percent on ImageNet.
    """

    name: str
    architecture: str
    family: str
    tag: str
    parameters: int | None
    gmacs: float | None
    weight_bytes: int | None
    input_size: int | None
    source_classes: int | None
    license: str | None
    source_dataset: str | None
    training_data: list[str]
    top1: float | None
    details: CatalogDetails
