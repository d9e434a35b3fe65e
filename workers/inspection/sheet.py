"""The contact sheet of a data set: a few small images of each of its first classes, for people to look at."""

import shutil
import uuid
from pathlib import Path

import numpy as np
import structlog

from app.contracts.datasets import BuiltinSpec
from app.paths import sheet_folder
from app.processes.errors import Problem
from app.settings import Settings
from app.shared_home import share_folder
from app.storage import StorageUnavailable
from workers.images import digits
from workers.images.index import DatasetIndex
from workers.images.reading import ImageReaders, small_jpeg

CLASSES = 40
IMAGES = 8

log = structlog.stdlib.get_logger(__name__)


def write_sheet(dataset_id: str, index: DatasetIndex, *, settings: Settings, readers: ImageReaders) -> None:
    """Write the sheet whole or not at all. An image that fails is left out: nothing depends on the sheet."""
    target = sheet_folder(settings, dataset_id)
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        for code in range(min(CLASSES, len(index.class_names))):
            _write_class(temporary / str(code), code, index, readers)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        share_folder(settings, target)
    except (OSError, StorageUnavailable) as error:
        log.warning("the contact sheet was not written", dataset=dataset_id, reason=str(error))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_class(folder: Path, code: int, index: DatasetIndex, readers: ImageReaders) -> None:
    folder.mkdir(parents=True)
    positions = np.flatnonzero(index.labels == code)
    # Spread over the class: neighbours in a folder are often frames of one scene.
    chosen = positions[np.linspace(0, len(positions) - 1, min(IMAGES, len(positions))).astype(int)]
    for number, position in enumerate(chosen):
        try:
            content = _thumbnail(index, int(position), readers)
        except Problem as problem:
            log.info("an image is missing on the contact sheet", path=index.paths[position], reason=problem.detail)
            continue
        (folder / f"{number}.jpg").write_bytes(content)


def _thumbnail(index: DatasetIndex, position: int, readers: ImageReaders) -> bytes:
    if isinstance(index.spec, BuiltinSpec):
        return small_jpeg(digits.draw(position))
    return readers.thumbnail(index.spec, index.paths[position])
