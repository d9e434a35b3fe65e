"""Where a data set's images and labels are: class folders, or a CSV manifest. Nothing is opened as an image here."""

import csv
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from io import BufferedReader
from operator import itemgetter
from pathlib import Path
from typing import TextIO

from app.contracts.datasets import FolderSpec, ManifestSpec
from app.paths import OutsideRoots, Roots, data_roots
from app.settings import Settings
from workers.errors import DatasetRejected, Stopped, TimeLimitExceeded
from workers.images.decode import EXTENSIONS, UnreadableImage

# One answer, whether a path leads out of the roots or to nothing: the other would tell which files there are outside.
NOT_THERE = "no such file in the data set's folder or under FORERANK_DATA_ROOTS"
READ_ALREADY = "a link to a folder that was read already"
LONGEST_LINE = 65_536


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that should be an image. ``problem`` says why it cannot even be opened, or is empty."""

    path: str
    class_name: str
    problem: str = ""


class Allowance:
    """The entries and the time that one inspection may take."""

    def __init__(self, settings: Settings, should_stop: Callable[[], bool] | None = None) -> None:
        self._seconds = settings.inspection_time_limit_seconds
        self._deadline = time.monotonic() + self._seconds
        self._entry_limit = settings.dataset_entry_limit
        self._entries = 0
        self._should_stop = should_stop

    def count_entry(self) -> None:
        """Count a file, a folder or a row of a manifest.

        Raises:
            DatasetRejected: there are too many.
            TimeLimitExceeded, Stopped: as of `check`.
        """
        self._entries += 1
        if self._entries > self._entry_limit:
            raise DatasetRejected(
                f"more than {self._entry_limit} files, folders and rows (FORERANK_DATASET_ENTRY_LIMIT): "
                "split the data set, and look for links that lead in circles"
            )
        if self._entries % 100 == 0:
            self.check()

    def check(self) -> None:
        """Raise if the time is over or the caller asks to stop."""
        if self._should_stop is not None and self._should_stop():
            raise Stopped("the inspection was stopped")
        if time.monotonic() > self._deadline:
            raise TimeLimitExceeded(
                f"not inspected after {self._seconds:g} s (FORERANK_INSPECTION_TIME_LIMIT_SECONDS): split the data set"
            )


def image_roots(spec: FolderSpec | ManifestSpec, settings: Settings) -> Roots:
    """Where the images of a data set may lie: its folder, if this service made that, and the data roots."""
    if spec.url:
        folder = Path(spec.path)
        if not folder.is_relative_to(settings.copies_folder):
            raise DatasetRejected("the copy does not lie in this service's folder: register the data set again")
        return Roots((folder,), setting="FORERANK_DATA_URLS")
    roots = data_roots(settings)
    if not spec.uploaded:
        return roots
    folder = Path(spec.path)
    if folder.parent != settings.datasets_folder:
        raise DatasetRejected("the upload does not lie in this service's folder: upload it again")
    return Roots((folder, *roots.folders), roots.excluded, roots.setting)


def dataset_folder(spec: FolderSpec | ManifestSpec, settings: Settings) -> Path:
    """The resolved folder of a data set by path, checked against the roots."""
    try:
        folder = image_roots(spec, settings).resolve(spec.path)
    except OutsideRoots:
        folder = None
    if folder is None or not folder.is_dir():
        raise DatasetRejected(
            f"{spec.path} is not an existing folder under FORERANK_DATA_ROOTS: add its root, or move it there"
        )
    return folder


def open_image(spec: FolderSpec | ManifestSpec, path: str, settings: Settings) -> BufferedReader:
    """Open a file of a data set below its roots; refuse pipes, devices and folders, which could block or never end.

    Raises:
        UnreadableImage: with the reason.
    """
    try:
        descriptor = image_roots(spec, settings).open(Path(spec.path) / path)
    except PermissionError as error:
        raise UnreadableImage(str(error.strerror)) from error
    except (OutsideRoots, OSError) as error:
        raise UnreadableImage(NOT_THERE) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableImage("not a regular file")
    return os.fdopen(descriptor, "rb")


def folder_candidates(folder: Path, spec: FolderSpec, settings: Settings, allowance: Allowance) -> Iterator[Candidate]:
    """Images of an ImageFolder: the first level names the class, deeper folders belong to it."""
    walk = _Walk(folder, image_roots(spec, settings), settings.dataset_depth_limit, allowance)
    try:
        _, entries = walk.visible(Path())
    except (OutsideRoots, OSError) as error:
        raise DatasetRejected(f"{folder} cannot be read any more") from error
    for name, kind in entries:
        if kind is _Kind.FOLDER:
            yield from walk.candidates(Path(name), name, set())
        elif kind is _Kind.NOT_THERE:
            yield Candidate(name, name, NOT_THERE)


class _Kind(Enum):
    FILE = auto()
    FOLDER = auto()
    NOT_THERE = auto()


@dataclass(frozen=True, slots=True)
class _Walk:
    folder: Path
    roots: Roots
    depth_limit: int
    allowance: Allowance

    def candidates(self, relative: Path, class_name: str, seen: set[tuple[int, int]]) -> Iterator[Candidate]:
        """Every image in and below a folder. ``seen`` keeps links from multiplying what there is to read."""
        if len(relative.parts) > self.depth_limit:
            problem = f"deeper than {self.depth_limit} folders (FORERANK_DATASET_DEPTH_LIMIT)"
            yield Candidate(str(relative), class_name, problem)
            return
        try:
            identity, entries = self.visible(relative)
        except PermissionError as error:
            yield Candidate(str(relative), class_name, str(error.strerror))
            return
        except (OutsideRoots, OSError):
            yield Candidate(str(relative), class_name, NOT_THERE)
            return
        if identity in seen:
            yield Candidate(str(relative), class_name, READ_ALREADY)
            return
        seen.add(identity)
        for name, kind in entries:
            if kind is _Kind.FOLDER:
                yield from self.candidates(relative / name, class_name, seen)
            elif kind is _Kind.NOT_THERE:
                yield Candidate(str(relative / name), class_name, NOT_THERE)
            elif Path(name).suffix.lower() in EXTENSIONS:
                yield Candidate(str(relative / name), class_name)

    def visible(self, relative: Path) -> tuple[tuple[int, int], list[tuple[str, _Kind]]]:
        """Which folder it is (device, inode), and its entries by name."""
        entries = []
        descriptor = self.roots.open(self.folder / relative)
        try:
            with os.scandir(descriptor) as listing:
                for entry in listing:
                    self.allowance.count_entry()
                    if not entry.name.startswith("."):
                        entries.append((entry.name, self._kind(relative, entry)))
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return (status.st_dev, status.st_ino), sorted(entries, key=itemgetter(0))

    def _kind(self, relative: Path, entry: "os.DirEntry[str]") -> _Kind:
        if not entry.is_symlink():
            return _Kind.FOLDER if entry.is_dir(follow_symlinks=False) else _Kind.FILE
        # What a link outside the roots leads to must not show.
        try:
            descriptor = self.roots.open(self.folder / relative / entry.name)
        except (OutsideRoots, OSError):
            return _Kind.NOT_THERE
        try:
            return _Kind.FOLDER if stat.S_ISDIR(os.fstat(descriptor).st_mode) else _Kind.FILE
        finally:
            os.close(descriptor)


def manifest_candidates(
    folder: Path, spec: ManifestSpec, settings: Settings, allowance: Allowance
) -> Iterator[Candidate]:
    """Rows of a CSV file with the columns ``path``, ``label`` and, if a split is asked for, ``split``."""
    split = spec.split
    seen: set[str] = set()
    try:
        with _open_manifest(folder, spec, settings) as file:
            rows = csv.DictReader(_lines(file, spec.manifest))
            needed = {"path", "label"} | ({"split"} if split is not None else set())
            if missing := sorted(needed - set(rows.fieldnames or ())):
                raise DatasetRejected(
                    f"{spec.manifest} has no column {', '.join(missing)}: its first line must name them"
                )
            for row in rows:
                allowance.count_entry()
                if split is not None and row["split"] != split:
                    continue
                path, label = row["path"], row["label"]
                if not path or not label:
                    raise DatasetRejected(f"{spec.manifest}, line {rows.line_num}: path and label must not be empty")
                if path in seen:
                    raise DatasetRejected(f"{spec.manifest}, line {rows.line_num}: {path} is listed twice")
                seen.add(path)
                yield Candidate(path, label)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetRejected(f"{spec.manifest} is not a CSV file in UTF-8: {error}") from error


def _open_manifest(folder: Path, spec: ManifestSpec, settings: Settings) -> TextIO:
    roots = image_roots(spec, settings)
    try:
        path = roots.resolve(folder / spec.manifest)
        if path.is_relative_to(folder):
            descriptor = roots.open(path)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return os.fdopen(descriptor, newline="", encoding="utf-8-sig")
            os.close(descriptor)
    except (OutsideRoots, OSError):
        pass
    raise DatasetRejected(f"the manifest {spec.manifest} is not a file in the data set's folder")


def _lines(file: TextIO, name: str) -> Iterator[str]:
    """The lines of a file that might be one endless line."""
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise DatasetRejected(f"{name} has a line of more than {LONGEST_LINE} characters")
        yield line
