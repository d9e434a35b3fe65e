"""Read every image of a data set once: count, fingerprint, and name what cannot be used."""

import hashlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from app.contracts.datasets import BuiltinSpec, DatasetSpec, FolderSpec, ManifestSpec
from app.contracts.progress import Progress, TellProgress
from app.settings import Settings
from workers.errors import DatasetRejected
from workers.images import digits
from workers.images.candidates import (
    Allowance,
    Candidate,
    dataset_folder,
    folder_candidates,
    manifest_candidates,
)
from workers.images.decode import UnreadableImage
from workers.images.index import DatasetIndex, fingerprint
from workers.images.reading import ImageFile, ImageReaders

NAMED_FILES = 10
CHUNK = 256


@dataclass(frozen=True, slots=True)
class _Item:
    path: str
    class_name: str
    file: ImageFile = field(default_factory=lambda: ImageFile("", 0, 0))
    problem: str = ""


def inspect_dataset(
    spec: DatasetSpec,
    *,
    settings: Settings,
    readers: ImageReaders,
    progress: TellProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> DatasetIndex:
    """Index a data set.

    Args:
        spec: where the images are.
        settings: roots and limits.
        readers: open the images.
        progress: told of the images that were read.
        should_stop: asked now and then.

    Raises:
        DatasetRejected: no image, too many, too many of them unreadable, or outside the roots.
        TimeLimitExceeded: the inspection as a whole took too long.
        Stopped: ``should_stop`` said so.
    """
    if isinstance(spec, BuiltinSpec):
        return _builtin(spec)
    allowance = Allowance(settings, should_stop)
    folder = dataset_folder(spec, settings)
    if isinstance(spec, ManifestSpec):
        found = manifest_candidates(folder, spec, settings, allowance)
    else:
        found = folder_candidates(folder, spec, settings, allowance)
    candidates = list(itertools.islice(found, settings.image_count_limit + 1))
    if len(candidates) > settings.image_count_limit:
        raise DatasetRejected(
            f"more than {settings.image_count_limit} images: raise FORERANK_IMAGE_COUNT_LIMIT or split the data set"
        )
    spec = spec.model_copy(update={"path": str(folder)})
    items: list[_Item] = []
    with ThreadPoolExecutor(readers.count) as pool:

        def read(candidate: Candidate) -> _Item:
            allowance.check()
            return _read(spec, candidate, readers)

        for start in range(0, len(candidates), CHUNK):
            items += pool.map(read, candidates[start : start + CHUNK])
            allowance.check()
            if progress is not None:
                progress(Progress(stage="inspect", done=len(items), total=len(candidates)))
    return _index(spec, items, settings)


def _read(spec: FolderSpec | ManifestSpec, candidate: Candidate, readers: ImageReaders) -> _Item:
    if candidate.problem:
        return _Item(candidate.path, candidate.class_name, problem=candidate.problem)
    try:
        return _Item(candidate.path, candidate.class_name, readers.read(spec, candidate.path))
    except UnreadableImage as error:
        return _Item(candidate.path, candidate.class_name, problem=str(error))


def _index(spec: FolderSpec | ManifestSpec, items: list[_Item], settings: Settings) -> DatasetIndex:
    readable = sorted((item for item in items if not item.problem), key=lambda item: item.path)
    unreadable = [item for item in items if item.problem]
    named = "; ".join(f"{item.path}: {item.problem}" for item in unreadable[:NAMED_FILES])
    if items and len(unreadable) / len(items) > settings.unreadable_share_limit:
        raise DatasetRejected(
            f"{len(unreadable)} of {len(items)} images cannot be read, more than the share of "
            f"{settings.unreadable_share_limit:g} (FORERANK_UNREADABLE_SHARE_LIMIT): {named}"
        )
    if not readable:
        where = (
            "the manifest" if isinstance(spec, ManifestSpec) else "class folders (one folder per class, images inside)"
        )
        raise DatasetRejected(f"no image was found in {where} under {spec.url or spec.path}")
    class_names = tuple(sorted({item.class_name for item in readable}))
    codes = {name: code for code, name in enumerate(class_names)}
    return DatasetIndex(
        spec=spec,
        class_names=class_names,
        paths=tuple(item.path for item in readable),
        labels=np.array([codes[item.class_name] for item in readable], dtype=np.int64),
        sizes=np.array([item.file.size for item in readable], dtype=np.int64),
        mtimes_ns=np.array([item.file.mtime_ns for item in readable], dtype=np.int64),
        fingerprint=fingerprint(
            spec.kind, ((item.path, item.class_name, item.file.content_digest) for item in readable)
        ),
        unreadable=tuple({"path": item.path, "reason": item.problem} for item in unreadable),
    )


def _builtin(spec: BuiltinSpec) -> DatasetIndex:
    if spec.name != "digits":
        raise DatasetRejected(f"there is no built-in data set {spec.name!r}: only digits")
    labels = digits.labels()
    paths = tuple(f"{label}/{position:04d}" for position, label in enumerate(labels))
    contents = (hashlib.sha256(digits.draw(position).tobytes()).hexdigest() for position in range(labels.size))
    return DatasetIndex(
        spec=spec,
        class_names=tuple(str(digit) for digit in range(10)),
        paths=paths,
        labels=labels,
        sizes=np.zeros(labels.size, dtype=np.int64),
        mtimes_ns=np.zeros(labels.size, dtype=np.int64),
        fingerprint=fingerprint(
            "builtin",
            ((path, str(label), content) for path, label, content in zip(paths, labels, contents, strict=True)),
        ),
    )
