"""Read every image of a data set once: count, fingerprint, and name what cannot be used."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.contracts.datasets import BuiltinSpec, DatasetSpec, FolderSpec, ManifestSpec
from app.processes.threads import thread_count
from app.settings import Settings
from workers.errors import DatasetRejected, Stopped
from workers.images import digits
from workers.images.decode import UnreadableImage, decode, open_regular_file
from workers.images.index import DatasetIndex, fingerprint
from workers.images.readers import Candidate, dataset_folder, folder_candidates, manifest_candidates

NAMED_FILES = 10
CHUNK = 256
DRAFT_SIZE = (64, 64)

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class _Item:
    path: str
    class_name: str
    content_digest: str = ""
    size: int = 0
    mtime_ns: int = 0
    problem: str = ""


def inspect_dataset(
    spec: DatasetSpec,
    *,
    settings: Settings,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> DatasetIndex:
    """Index a data set.

    Args:
        spec: where the images are.
        settings: roots and limits.
        progress: called with ``{"stage": "inspect", "done": n, "total": n}``.
        should_stop: asked now and then.

    Raises:
        DatasetRejected: no image, too many, too many of them unreadable, or outside the roots.
        Stopped: ``should_stop`` said so.
    """
    if isinstance(spec, BuiltinSpec):
        return _builtin(spec)
    folder = dataset_folder(spec, settings)
    if isinstance(spec, ManifestSpec):
        found = manifest_candidates(folder, spec, settings)
    else:
        found = folder_candidates(folder, settings)
    candidates = list(itertools.islice(found, settings.image_count_limit + 1))
    if len(candidates) > settings.image_count_limit:
        raise DatasetRejected(
            f"more than {settings.image_count_limit} images: raise FORERANK_IMAGE_COUNT_LIMIT or split the data set"
        )
    items: list[_Item] = []
    for chunk in _read_all(folder, candidates, settings):
        items += chunk
        if should_stop is not None and should_stop():
            raise Stopped("the inspection was stopped")
        if progress is not None:
            progress({"stage": "inspect", "done": len(items), "total": len(candidates)})
    return _index(spec.model_copy(update={"path": str(folder)}), items, settings)


def _read_all(folder: Path, candidates: list[Candidate], settings: Settings) -> Iterator[list[_Item]]:
    with ThreadPoolExecutor(thread_count(settings)) as pool:
        for start in range(0, len(candidates), CHUNK):
            yield list(
                pool.map(lambda candidate: _read(folder, candidate, settings), candidates[start : start + CHUNK])
            )


def _read(folder: Path, candidate: Candidate, settings: Settings) -> _Item:
    problem = candidate.problem
    if not problem:
        try:
            with open_regular_file(folder / candidate.path) as file:
                status = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                decode(file, pixel_limit=settings.image_pixel_limit, draft_size=DRAFT_SIZE)
            return _Item(candidate.path, candidate.class_name, digest, status.st_size, status.st_mtime_ns)
        except UnreadableImage as error:
            problem = str(error)
        except OSError as error:
            problem = error.strerror or type(error).__name__
    return _Item(candidate.path, candidate.class_name, problem=problem)


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
            "the manifest" if isinstance(spec, ManifestSpec) else "class folders (one folder a class, images inside)"
        )
        raise DatasetRejected(f"no image was found in {where} under {spec.path}")
    class_names = tuple(sorted({item.class_name for item in readable}))
    codes = {name: code for code, name in enumerate(class_names)}
    return DatasetIndex(
        spec=spec,
        class_names=class_names,
        paths=tuple(item.path for item in readable),
        labels=np.array([codes[item.class_name] for item in readable], dtype=np.int64),
        sizes=np.array([item.size for item in readable], dtype=np.int64),
        mtimes_ns=np.array([item.mtime_ns for item in readable], dtype=np.int64),
        fingerprint=fingerprint(spec.kind, ((item.path, item.class_name, item.content_digest) for item in readable)),
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
