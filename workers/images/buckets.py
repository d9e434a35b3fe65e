"""Data sets in buckets: what objects they have, and this host's copy, from which their images are read.

A copy is an entry of a store, named by the URL and by what the objects were: it is whole, is not evicted while it is
read, and can be fetched again as long as the objects stay what they were.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.archives import MEGABYTE, Limits, class_root, is_archive, safe_path, unpack
from app.contracts.datasets import FolderSpec, ManifestSpec
from app.errors import ForerankError
from app.paths import OutsideRoots, data_url
from app.settings import Settings
from app.storage import Objects, StoredFile
from workers.errors import DatasetChanged, DatasetRejected, StorageFull
from workers.images.candidates import Allowance
from workers.images.decode import EXTENSIONS
from workers.store.entries import Entry
from workers.store.folder import FolderStore

FORMAT_VERSION = 1
IMAGES = "images"
BATCH = 64


@dataclass(frozen=True, slots=True)
class Listing:
    """The objects of a data set: one archive, or files of a tree by their path in it.

    Attributes:
        version: SHA-256 over their names, sizes and ETags.
    """

    objects: Objects
    files: dict[str, StoredFile]
    version: str

    @property
    def bytes(self) -> int:
        """Of all objects."""
        return sum(file.bytes for file in self.files.values())


def copies_of(settings: Settings) -> FolderStore:
    """Where copies lie, under their quota."""
    quota, reserve = (int(number * 1e9) for number in (settings.copy_quota_gigabytes, settings.disk_reserve_gigabytes))
    return FolderStore(settings.copies_folder, quota, reserve)


def copy_folder(spec: FolderSpec | ManifestSpec, settings: Settings) -> Path:
    """Where the images of the inspected version lie on this host, if they do."""
    return copies_of(settings).folder(_key(spec.url, spec.version)) / IMAGES


def list_objects(spec: FolderSpec | ManifestSpec, settings: Settings, allowance: Allowance | None = None) -> Listing:
    """What the bucket has of a data set now.

    Raises:
        DatasetRejected: the URL is outside FORERANK_DATA_URLS, nothing is there, or a name cannot be a file's.
        StorageUnavailable: the service does not answer, or refuses.
    """
    try:
        url = data_url(settings, spec.url)
    except OutsideRoots as error:
        raise DatasetRejected(str(error)) from error
    allowance = allowance or Allowance(settings)
    try:
        if is_archive(url):
            folder, name = url.rsplit("/", 1)
            objects = _objects(folder)
            files = {name: objects.find(name)}
        else:
            objects = _objects(url)
            files = _tree(objects, spec, allowance)
    except FileNotFoundError:
        files = {}
    if not files:
        raise DatasetRejected(f"nothing to read is at {url}: name a prefix with class folders below it, or an archive")
    content = [[name, file.bytes, file.etag] for name, file in sorted(files.items())]
    return Listing(objects, files, hashlib.sha256(json.dumps(content).encode()).hexdigest())


@contextmanager
def copied(spec: FolderSpec | ManifestSpec, settings: Settings) -> Iterator[FolderSpec | ManifestSpec]:
    """The specification with this host's copy, made if there is none and held until the end, and its version.

    Raises:
        DatasetChanged: the specification has a version, and the bucket has another or none.
        DatasetRejected, StorageFull, StorageUnavailable, TimeLimitExceeded: there can be no copy.
    """
    allowance = Allowance(settings)
    listing = _expected(spec, settings, allowance)
    key = _key(spec.url, listing.version)
    store = copies_of(settings)
    with store.lock(key):
        entry = _find(store, key)
        if entry is None:
            _fetch(store, key, spec, listing, settings, allowance)
            entry = store.open(key)
    with entry:
        yield spec.model_copy(update={"version": listing.version, "path": str(entry.folder / IMAGES)})


def _expected(spec: FolderSpec | ManifestSpec, settings: Settings, allowance: Allowance) -> Listing:
    try:
        listing = list_objects(spec, settings, allowance)
    except DatasetRejected as problem:
        if not spec.version:
            raise
        raise DatasetChanged(f"the data set cannot be read anymore: {problem.detail}") from problem
    if spec.version and listing.version != spec.version:
        raise DatasetChanged(
            f"the objects at {spec.url} changed after the data set was inspected: register the data set again"
        )
    return listing


def _find(store: FolderStore, key: str) -> Entry | None:
    try:
        return store.open(key)
    except KeyError:
        return None


def _tree(objects: Objects, spec: FolderSpec | ManifestSpec, allowance: Allowance) -> dict[str, StoredFile]:
    files: dict[str, StoredFile] = {}
    folders: set[str] = set()
    for file in objects.list():
        allowance.count_entry()
        # Consoles store an empty object for a folder.
        if file.name.endswith("/") or not _is_wanted(file.name, spec):
            continue
        path = _path(file.name)
        if path is None:
            continue
        outer = {str(folder) for folder in path.parents}
        if str(path) in files or str(path) in folders or outer & files.keys():
            raise DatasetRejected(f"{_shown(file.name)} would be a file and a folder, or the same file twice")
        folders |= outer
        files[str(path)] = file
    return files


def _is_wanted(name: str, spec: FolderSpec | ManifestSpec) -> bool:
    # A manifest may name any file, and be any.
    if isinstance(spec, ManifestSpec):
        return True
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    return not is_hidden and PurePosixPath(name).suffix.lower() in EXTENSIONS


def _path(name: str) -> PurePosixPath | None:
    try:
        if "//" in name or "." in name.split("/"):
            raise DatasetRejected(f"{_shown(name)} has an empty part or `.` in its name: rename the object")
        return safe_path(name)
    except ForerankError as error:
        raise DatasetRejected(error.detail) from error


def _fetch(
    store: FolderStore,
    key: str,
    spec: FolderSpec | ManifestSpec,
    listing: Listing,
    settings: Settings,
    allowance: Allowance,
) -> None:
    """Make the copy. Times of files are those of their objects, so that every copy has the same."""
    if listing.bytes > store.quota_bytes or not store.make_room(listing.bytes):
        raise StorageFull(
            f"the objects have {listing.bytes / 1e9:.2f} GB, but the quota (FORERANK_COPY_QUOTA_GIGABYTES) is "
            f"{store.quota_bytes / 1e9:.2f} GB and the disk may have less: raise it, or free some disk"
        )
    with store.write(key, {"url": spec.url, "version": listing.version}) as folder:
        try:
            if is_archive(spec.url):
                _fetch_archive(listing, folder, settings, store.quota_bytes)
            else:
                _fetch_tree(listing, folder / IMAGES, allowance)
        except FileNotFoundError as error:
            raise DatasetChanged(f"an object at {spec.url} went while it was copied: try again") from error
        except ForerankError as error:
            raise DatasetRejected(f"{spec.url}: {error.detail}") from error
        if list_objects(spec, settings).version != listing.version:
            raise DatasetChanged(f"the objects at {spec.url} changed while they were copied: try again")


def _fetch_archive(listing: Listing, folder: Path, settings: Settings, quota_bytes: int) -> None:
    ((name, stored),) = listing.files.items()
    if stored.bytes > settings.upload_limit_megabytes * MEGABYTE:
        raise DatasetRejected(
            f"the archive is larger than {settings.upload_limit_megabytes:g} MB (FORERANK_UPLOAD_LIMIT_MEGABYTES)"
        )
    archive, unpacked = folder / "archive", folder / "unpacked"
    unpacked.mkdir()
    listing.objects.get(name, archive)
    largest = min(int(settings.upload_expanded_limit_megabytes * MEGABYTE), quota_bytes)
    with archive.open("rb") as file:
        unpack(file, unpacked, limits=Limits(entries=settings.upload_entry_limit, expanded_bytes=largest))
    archive.unlink()
    class_root(unpacked).rename(folder / IMAGES)
    shutil.rmtree(unpacked, ignore_errors=True)
    for path in (folder / IMAGES).rglob("*"):
        _set_time(path, stored)


def _fetch_tree(listing: Listing, folder: Path, allowance: Allowance) -> None:
    files = list(listing.files.items())
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        allowance.check()
        listing.objects.get_many({file.name: folder / path for path, file in batch})
        for path, file in batch:
            _set_time(folder / path, file)


def _set_time(path: Path, stored: StoredFile) -> None:
    os.utime(path, (int(stored.modified), int(stored.modified)))


def _key(url: str, version: str) -> str:
    return hashlib.sha256(json.dumps([FORMAT_VERSION, url, version]).encode()).hexdigest()


def _shown(name: str) -> str:
    return ascii(name[:200])


def _objects(url: str) -> Objects:
    return Objects(url, "FORERANK_DATA_URLS")
