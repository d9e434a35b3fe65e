"""Data sets: labelled images, registered by where they lie."""

from datetime import datetime

from pydantic import Field

from app.contracts.base import Body, Name, Text
from app.contracts.datasets import InspectionProgress, Unreadable
from app.contracts.states import ResourceState
from app.schemas.base import OwnedAnswer, Problem


class DatasetDescription(Body):
    """What is said of labelled images, wherever they come from."""

    name: Name | None = Field(None, description="Default: the last part of the location, or the archive's name.")
    split: Text | None = Field(None, min_length=1, max_length=100, description="Rows of the manifest with this split.")
    sample_of: Text | None = Field(
        None,
        min_length=1,
        max_length=300,
        description="Says that these images are a sample of what models were trained on. Models whose "
        "`source_dataset` has this name then use it for PED's reference features and OSBORN's domain difference.",
        examples=["imagenet-1k"],
    )
    shared: bool = Field(False, description="Let other keys see and use it.")


class DatasetCreate(DatasetDescription):
    """Where the images are. They are read by a worker, so the answer comes before they are counted."""

    model_config = Body.model_config | {
        "json_schema_extra": {"examples": [{"name": "digits-again", "location": "builtin:digits"}]}
    }

    location: Text = Field(
        min_length=1,
        max_length=4096,
        description="`builtin:digits` (1,797 handwritten digits that come with scikit-learn), or the absolute path, "
        "under `FORERANK_DATA_ROOTS`, of a folder with one sub-folder of images per class, or the URL, under "
        "`FORERANK_DATA_URLS`, of such a folder in a bucket or of a zip, tar or tar.gz of it.",
        examples=["builtin:digits", "/data/signs", "s3://bucket/signs", "s3://bucket/signs.zip"],
    )
    manifest: Text | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="A CSV file in the folder or the archive, with the columns `path` and `label` and perhaps "
        "`split`, instead of sub-folders as classes.",
        examples=["labels.csv"],
    )


class DatasetAnswer(OwnedAnswer):
    """A data set as it stands."""

    location: str
    sample_of: str | None
    state: ResourceState
    problem: Problem | None = Field(description="Why its inspection failed.")
    progress: InspectionProgress | None = Field(description="Images read so far, while a worker inspects it.")
    fingerprint: str | None = Field(description="SHA-256 of labels and contents: the same images, the same value.")
    image_count: int | None
    class_count: int | None
    class_counts: dict[str, int] | None = Field(description="Images of each class.")
    unreadable: list[Unreadable] | None = Field(description="Files that could not be read, left out of all samples.")
    stored_bytes: int = Field(description="Of an upload, counted against the quota of its key; else 0.")
    inspected_at: datetime | None
