"""Files of an S3-compatible service, by name below one URL: what hosts share, or a data set.

Without ``FORERANK_STORE_URL`` hosts share ``FORERANK_HOME`` instead, and only data sets are read through this.
"""

import errno
import os
import shutil
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from app.processes.errors import Problem
from app.settings import Settings

DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class StorageUnavailable(Problem):
    """The service does not answer, or refuses."""

    code = "storage-unavailable"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the service; ``modified`` is seconds since 1970 by its clock, ``etag`` changes with the content."""

    name: str
    bytes: int
    modified: float
    etag: str


class Objects:
    """The files below one URL. A file is seen whole or not at all.

    Every method raises `StorageUnavailable` if the service does not answer; the client has tried several times then.
    """

    def __init__(self, url: str, setting: str = "FORERANK_STORE_URL") -> None:
        """``setting``: of which the URL is, for messages."""
        try:
            # An extra of the installation, and slow to import.
            import s3fs
        except ModuleNotFoundError as error:
            raise StorageUnavailable(f"{setting} needs the extra `s3`: pip install 'forerank[s3]'") from error
        self._setting = setting
        # Other processes change what is there, so no listing is kept. Credentials and endpoint come from AWS_*.
        self._files: Any = s3fs.S3FileSystem(use_listings_cache=False)
        self._root = url.removeprefix("s3://").rstrip("/")

    def read(self, name: str) -> bytes:
        """The content. Raises `FileNotFoundError`."""
        with self._calls():
            return bytes(self._files.cat_file(self._path(name), max_concurrency=1))

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The contents of those that are there, asked for many at a time."""
        paths = {self._path(name): name for name in names}
        if not paths:
            return {}
        found = {}
        with self._calls():
            answers = self._files.cat(list(paths), on_error="return", max_concurrency=1)
            for path, answer in answers.items():
                if isinstance(answer, FileNotFoundError):
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                found[paths[path]] = bytes(answer)
        return found

    def write(self, name: str, content: bytes) -> None:
        """Store the content, in place of what has the name."""
        with self._calls(), _into_a_bucket():
            self._files.pipe_file(self._path(name), content)

    def put(self, file: Path, name: str) -> None:
        """Store a local file, in place of what has the name."""
        with self._calls(), _into_a_bucket():
            self._files.put_file(str(file), self._path(name))

    def get(self, name: str, file: Path) -> None:
        """Write the content to a local file, whole or not at all. Raises `FileNotFoundError`."""
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        try:
            with self._calls():
                self._files.get_file(self._path(name), str(unfinished))
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)

    def get_many(self, files: Mapping[str, Path]) -> None:
        """Write contents to local files, many at a time; folders are made. Raises `FileNotFoundError` of any."""
        if files:
            with self._calls():
                self._files.get([self._path(name) for name in files], [str(file) for file in files.values()])

    def move(self, name: str, other: str) -> None:
        """Give a file another name."""
        with self._calls():
            self._files.mv(self._path(name), self._path(other))

    def find(self, name: str) -> StoredFile:
        """Of one file, all but its content. Raises `FileNotFoundError`."""
        with self._calls():
            details = self._files.info(self._path(name))
        if details["type"] != "file":
            raise FileNotFoundError(name)
        return _stored(name, details)

    def list(self, folder: str = "") -> Iterator[StoredFile]:
        """All files whose names begin with ``folder/``; without a folder, all."""
        where = self._path(folder) if folder else self._root
        with self._calls():
            found = self._files.find(where, detail=True)
        for path, details in found.items():
            if details["type"] == "file" and path.startswith(f"{where}/"):
                yield _stored(path.removeprefix(f"{self._root}/"), details)

    def delete(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are passed over."""
        if paths := [self._path(name) for name in names]:
            with self._calls():
                self._files.rm(paths)

    def delete_folder(self, folder: str) -> None:
        """Remove all files whose names begin with ``folder/``."""
        self.delete([file.name for file in self.list(folder)])

    def put_folder(self, folder: Path, name: str) -> None:
        """Store the files below a local folder as one archive; their times become whole seconds, as in every copy."""
        archive = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tar")
        try:
            with tarfile.open(archive, "w") as tar:
                for path in sorted(folder.rglob("*")):
                    seconds = int(path.stat().st_mtime)
                    os.utime(path, (seconds, seconds))
                    tar.add(path, arcname=path.relative_to(folder), recursive=False)
            self.put(archive, name)
        finally:
            archive.unlink(missing_ok=True)

    def get_folder(self, name: str, folder: Path) -> None:
        """Unpack what `put_folder` stored, whole or not at all. Raises `FileNotFoundError`."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        unpacked = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        archive = unpacked.with_suffix(".tar")
        try:
            self.get(name, archive)
            unpacked.mkdir()
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter="data")
            try:
                unpacked.rename(folder)
            except OSError:
                # Another process was first: what has the name was unpacked from the same archive.
                if not folder.is_dir():
                    raise
        finally:
            archive.unlink(missing_ok=True)
            shutil.rmtree(unpacked, ignore_errors=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _calls(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Of our own disk, which is full or refuses, not of the service.
            if error.filename is not None or error.errno in DISK_IS_FULL or isinstance(error, FileNotFoundError):
                raise
            raise self._unavailable(error) from error
        except StorageUnavailable:
            raise
        except Exception as error:
            # The client passes on whatever the libraries below it raise: there is no class that has them all.
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        return StorageUnavailable(f"the storage of {self._setting} cannot be used ({type(error).__name__}: {error})")


def _stored(name: str, details: dict[str, Any]) -> StoredFile:
    return StoredFile(name, details["size"], details["LastModified"].timestamp(), details["ETag"])


def objects_of(settings: Settings) -> Objects | None:
    """The shared files of this deployment; None if hosts share a folder."""
    return _objects(settings.store_url) if settings.store_url else None


_objects = cache(Objects)


@contextmanager
def _into_a_bucket() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        raise StorageUnavailable("the bucket does not exist: create it, or correct FORERANK_STORE_URL") from error
