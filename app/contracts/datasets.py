"""Data sets: where the images are, and what inspection found."""

from typing import Annotated, Literal

from pydantic import Field

from app.contracts.base import Body, Contract


class FolderSpec(Contract):
    """A folder with one sub-folder of images per class.

    Attributes:
        path: of the folder. Of an upload and of a data set in a bucket each host has its own.
        url: in a bucket: of the prefix or the archive; else empty.
        version: in a bucket: digest of names, sizes and ETags of the objects that were inspected.
    """

    kind: Literal["folder"] = "folder"
    path: str
    uploaded: bool = False
    url: str = ""
    version: str = ""


class ManifestSpec(Contract):
    """A folder with a CSV file that names images and labels, and perhaps splits; more as of `FolderSpec`."""

    kind: Literal["manifest"] = "manifest"
    path: str
    manifest: str
    split: str | None = None
    uploaded: bool = False
    url: str = ""
    version: str = ""


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
