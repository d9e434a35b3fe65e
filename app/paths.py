"""Paths and URLs that users name: they must lead below what the operator allows, and are opened there only."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from app.settings import Settings
from app.urls import is_below, normalized

# To pass through a folder takes less than the right to list it, where the system can tell the two apart.
PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
# Opening a pipe or a device must not block.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class OutsideRoots(ValueError):
    """The path lies under none of the roots; the message names the setting that would allow it."""


@dataclass(frozen=True, slots=True)
class Roots:
    """Folders that a path from outside may lead into.

    Attributes:
        folders: resolved. They are trusted; what lies below them is not.
        excluded: folders that none but a root inside them leads into.
        setting: that names the folders, for messages.
    """

    folders: tuple[Path, ...]
    excluded: tuple[Path, ...] = ()
    setting: str = ""

    def resolve(self, path: str | Path) -> Path:
        """The path with its links followed. Whether anything is there is not looked at.

        Raises:
            OutsideRoots: it is not absolute, or leads elsewhere.
        """
        return self._find(path)[1]

    def open(self, path: str | Path) -> int:
        """A descriptor of a file or a folder, for reading.

        The links are followed first, and then the path is walked from its root without following any: a folder that
        is exchanged for a link in between is refused.

        Raises:
            OutsideRoots: as of `resolve`.
            OSError: nothing is there, it may not be read, or it changed meanwhile.
        """
        root, resolved = self._find(path)
        *folders, last = resolved.relative_to(root).parts or (".",)
        descriptor = os.open(root, PASS & ~os.O_NOFOLLOW)
        try:
            for part in folders:
                outer, descriptor = descriptor, os.open(part, PASS, dir_fd=descriptor)
                os.close(outer)
            return os.open(last, READ, dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def has_folder(self, path: str | Path) -> bool:
        """Whether `open` would open a folder there; false if the system refuses to look."""
        return stat.S_ISDIR(self._mode(path))

    def has_file(self, path: str | Path) -> bool:
        """Whether `open` would open a regular file there; false if the system refuses to look."""
        return stat.S_ISREG(self._mode(path))

    def _mode(self, path: str | Path) -> int:
        try:
            descriptor = self.open(path)
        except (OutsideRoots, OSError):
            return 0
        try:
            return os.fstat(descriptor).st_mode
        finally:
            os.close(descriptor)

    def _find(self, path: str | Path) -> tuple[Path, Path]:
        if "\0" in str(path):
            raise OutsideRoots("a path cannot hold a null character")
        given = Path(path)
        if not given.is_absolute():
            raise OutsideRoots(f"{given} is not an absolute path")
        # Unlike `Path.resolve`, it takes a circle of links for a path to nothing.
        resolved = Path(os.path.realpath(given))
        for root in self.folders:
            forbidden = (folder for folder in self.excluded if not root.is_relative_to(folder))
            if resolved.is_relative_to(root) and not any(resolved.is_relative_to(folder) for folder in forbidden):
                return root, resolved
        raise OutsideRoots(
            f"{given} is not under one of the folders of {self.setting}; ask the operator to add its folder"
        )


def data_roots(settings: Settings) -> Roots:
    """Where data sets may be registered by path: never in the service's own folder, whatever the roots are."""
    return Roots(settings.data_roots, excluded=(settings.home,), setting="FORERANK_DATA_ROOTS")


def data_url(settings: Settings, url: str) -> str:
    """The URL of a data set in its one spelling. Whether anything is there is not looked at.

    Raises:
        OutsideRoots: it is not such a URL, or lies elsewhere.
    """
    try:
        found = normalized(url)
    except ValueError as error:
        raise OutsideRoots(str(error)) from error
    is_allowed = any(is_below(found, root) for root in settings.data_urls)
    # Uploads of all keys are there.
    if not is_allowed or (settings.store_url and is_below(found, settings.store_url)):
        raise OutsideRoots(f"{found} is not under one of FORERANK_DATA_URLS; ask the operator to add its prefix")
    return found


def model_roots(settings: Settings) -> Roots:
    """Where models may be registered by path."""
    return Roots(
        (*settings.model_roots, settings.zoo_folder), excluded=(settings.home,), setting="FORERANK_MODEL_ROOTS"
    )


def upload_folder(settings: Settings, dataset_id: str) -> Path:
    """Where the images of an upload are."""
    return settings.datasets_folder / dataset_id


def sheet_folder(settings: Settings, dataset_id: str) -> Path:
    """Where the small images of a data set's contact sheet lie: one folder per class, in the order of the names."""
    return settings.datasets_folder / f"{dataset_id}-sheet"


def index_file(settings: Settings, dataset_id: str) -> Path:
    """Where what an inspection found is."""
    return settings.datasets_folder / f"{dataset_id}.json"
