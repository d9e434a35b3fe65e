"""Data sets: where the images are, and what inspection found."""

from typing import Annotated, Literal

from pydantic import Field

from app.contracts.base import Body, Contract


class FolderSpec(Contract):
    """A folder with one sub-folder of images per class."""

    kind: Literal["folder"] = "folder"
    path: str
    uploaded: bool = False


class ManifestSpec(Contract):
    """A folder with a CSV file that names images and labels, and perhaps splits."""

    kind: Literal["manifest"] = "manifest"
    path: str
    manifest: str
    split: str | None = None
    uploaded: bool = False


class BuiltinSpec(Contract):
    """Images that come with a library."""

    kind: Literal["builtin"] = "builtin"
    name: str


DatasetSpec = Annotated[FolderSpec | ManifestSpec | BuiltinSpec, Field(discriminator="kind")]


class Unreadable(Body):
    """A file that was left out."""

    path: str
    reason: str


class InspectedDataset(Contract):
    """What the inspection of a data set found.

    Attributes:
        fingerprint: SHA-256 of labels and contents.
        class_counts: class -> images.
        unreadable: files that were left out.
    """

    fingerprint: str
    image_count: int
    class_counts: dict[str, int]
    unreadable: tuple[Unreadable, ...]


class InspectionProgress(Contract):
    """Images that have been read so far."""

    done: int
    total: int
