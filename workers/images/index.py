"""What a data set holds: every image with its class, size and time, and one fingerprint of it all."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from app.contracts.datasets import BuiltinSpec, DatasetSpec
from app.paths import index_file
from app.settings import Settings
from app.shared_home import fetch_file, share_file
from workers.errors import DatasetChanged
from workers.images import digits
from workers.images.candidates import open_image
from workers.images.decode import UnreadableImage, decode
from workers.images.places import placed

FORMAT_VERSION = 1
SPEC: TypeAdapter[DatasetSpec] = TypeAdapter(DatasetSpec)


@dataclass(frozen=True, slots=True)
class DatasetIndex:
    """An inspected data set.

    Attributes:
        spec: how it is read.
        class_names: sorted; a label is a position in it.
        paths: of the readable images, relative to the data set's folder, sorted.
        labels: (N,) int64 class codes.
        sizes: (N,) bytes at inspection.
        mtimes_ns: (N,) modification times at inspection, nanoseconds.
        fingerprint: SHA-256 over the reader's kind and the sorted (path, class name, SHA-256 of the content).
        unreadable: ``{"path": ..., "reason": ...}`` of each image left out.
    """

    spec: DatasetSpec
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    mtimes_ns: NDArray[np.int64]
    fingerprint: str
    unreadable: tuple[dict[str, str], ...] = field(default=())

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def counts(self) -> dict[str, int]:
        """Readable images of each class."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return {name: int(count) for name, count in zip(self.class_names, counts, strict=True)}

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        content = {
            "format": FORMAT_VERSION,
            "spec": self.spec.plain(),
            "class_names": self.class_names,
            "paths": self.paths,
            "labels": self.labels.tolist(),
            "sizes": self.sizes.tolist(),
            "mtimes_ns": self.mtimes_ns.tolist(),
            "fingerprint": self.fingerprint,
            "unreadable": self.unreadable,
        }
        try:
            temporary.write_text(json.dumps(content))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "DatasetIndex":
        """Read what ``save`` wrote."""
        content = json.loads(path.read_text())
        if content["format"] != FORMAT_VERSION:
            raise ValueError(
                f"{path} has index format {content['format']}, not {FORMAT_VERSION}: inspect the data set again"
            )
        return cls(
            spec=SPEC.validate_python(content["spec"], extra="ignore"),
            class_names=tuple(content["class_names"]),
            paths=tuple(content["paths"]),
            labels=np.array(content["labels"], dtype=np.int64),
            sizes=np.array(content["sizes"], dtype=np.int64),
            mtimes_ns=np.array(content["mtimes_ns"], dtype=np.int64),
            fingerprint=content["fingerprint"],
            unreadable=tuple(content["unreadable"]),
        )

    def read(self, position: int, settings: Settings) -> Image.Image:
        """Decode one image to upright 8-bit RGB.

        Raises:
            DatasetChanged: the file is gone, or its size, time or content is not what was inspected.
        """
        if isinstance(self.spec, BuiltinSpec):
            return digits.draw(position)
        name = self.paths[position]
        try:
            with open_image(self.spec, name, settings) as file:
                status = os.fstat(file.fileno())
                if status.st_size != self.sizes[position] or status.st_mtime_ns != self.mtimes_ns[position]:
                    raise DatasetChanged(
                        f"{name} changed after the data set was inspected: register the data set again"
                    )
                return decode(file, pixel_limit=settings.image_pixel_limit)
        except (OSError, UnreadableImage) as error:
            raise DatasetChanged(
                f"{name} could be read at inspection, but not now ({error}): register the data set again"
            ) from error


@lru_cache(maxsize=8)
def _load(path: Path, modified: int) -> DatasetIndex:
    return DatasetIndex.load(path)


class IndexStore:
    """Indexes of inspected data sets. The id of the data set is the only address that one process gives another."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def open(self, dataset_id: str) -> DatasetIndex:
        """Raise `DatasetChanged` if there is none."""
        path = index_file(self._settings, dataset_id)
        fetch_file(self._settings, path)
        try:
            index = _load(path, path.stat().st_mtime_ns)
            return replace(index, spec=placed(index.spec, dataset_id, self._settings))
        except FileNotFoundError:
            raise DatasetChanged("what its inspection found is gone: register the data set again") from None

    def write(self, dataset_id: str, index: DatasetIndex) -> None:
        """Store it whole or not at all."""
        path = index_file(self._settings, dataset_id)
        index.save(path)
        share_file(self._settings, path)


def fingerprint(kind: str, items: Iterable[tuple[str, str, str]]) -> str:
    """SHA-256 over ``kind`` and the sorted (path, class name, SHA-256 of the content)."""
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, kind]).encode())
    for item in sorted(items):
        digest.update(json.dumps(item).encode() + b"\n")
    return digest.hexdigest()
