"""Models: where the weights are, and what inspection found."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from app.contracts.base import Body, Contract, JsonObject

Channels = Annotated[list[float], Field(min_length=1, max_length=16)]


class ModelInput(Body):
    """How a model wants its images. What is left out is taken from timm's settings for the architecture."""

    input_size: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=3, max_length=3)] | None = Field(
        None, description="Channels, height, width.", examples=[[3, 224, 224]]
    )
    mean: Channels | None = None
    std: Channels | None = None
    crop_pct: float | None = Field(None, gt=0, le=1, description="Crop size over resize size.")
    crop_mode: Literal["center", "squash", "border"] | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"] | None = None

    @model_serializer(mode="wrap")
    def _given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class TimmSpec(Contract):
    """Pre-trained weights by timm's name."""

    kind: Literal["timm"] = "timm"
    name: str


class HubSpec(Contract):
    """A repository of the Hugging Face hub."""

    kind: Literal["hf-hub"] = "hf-hub"
    name: str
    revision: str | None = None


class LocalFolderSpec(Contract):
    """A folder laid out like the hub's."""

    kind: Literal["local-dir"] = "local-dir"
    path: str


class WeightsFileSpec(Contract):
    """A safetensors file and the timm architecture that it fits."""

    kind: Literal["file"] = "file"
    path: str
    architecture: str
    arguments: JsonObject = Field(default_factory=dict)
    num_classes: int | None = None
    input: ModelInput = ModelInput()


ModelSpec = Annotated[TimmSpec | HubSpec | LocalFolderSpec | WeightsFileSpec, Field(discriminator="kind")]


class InputConfiguration(Contract):
    """The whole evaluation transform of a model."""

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    crop_mode: str
    interpolation: str


class WeightsFile(Contract):
    """A file of a local model as it was before it was loaded; ``path`` is as it lies in the model's folder."""

    path: str
    size: int
    mtime_ns: int


class ModelCard(Contract):
    """What inspection learned of a model.

    Attributes:
        weights_digest: SHA-256 over the sorted (name, dtype, shape, bytes) of the state as loaded in 32 bits, so that
            the same weights under two names agree.
        architecture: timm architecture, without a tag.
        arguments: keyword arguments with which it was built.
        parameters: count.
        feature_dimension: D of the pooled features.
        source_classes: columns of the source probabilities; 0 without a classifier, 2 for a single logit s: [1 - s, s].
        stages: names of modules that are sensible layers; any other module's name may be asked for as well.
        license: as timm states it, or None.
        files: of a local model; another size or time means that it has to be digested again.
    """

    weights_digest: str
    architecture: str
    arguments: JsonObject
    parameters: int
    input: InputConfiguration
    feature_dimension: int
    source_classes: int
    stages: tuple[str, ...] = ()
    license: str | None = None
    files: tuple[WeightsFile, ...] = ()


class InstalledModel(Contract):
    """A model that was fetched to this machine, to be registered."""

    name: str
    spec: WeightsFileSpec
    source_dataset: str
    license: str
