"""Paths that users name must lie under the roots that the operator allows."""

import os
from collections.abc import Iterable
from pathlib import Path


class OutsideRoots(ValueError):
    """The path lies under none of the roots; the message names the setting that would allow it."""


def under_roots(path: str | Path, roots: Iterable[Path], *, setting: str) -> Path:
    """The path with its links resolved, if that lies under one of the roots.

    Raises:
        OutsideRoots: it does not, or it is not absolute.
    """
    if "\0" in str(path):
        raise OutsideRoots("a path cannot hold a null character")
    given = Path(path)
    if not given.is_absolute():
        raise OutsideRoots(f"{given} is not an absolute path")
    # Unlike `resolve`, it takes a circle of links for a path to nothing.
    resolved = Path(os.path.realpath(given))
    if any(resolved.is_relative_to(root) for root in roots):
        return resolved
    raise OutsideRoots(f"{given} is not under one of the folders of {setting}; ask the operator to add its folder")


def is_folder(path: Path) -> bool:
    """Whether a folder is there; what the system refuses to look at, such as an endless name, is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether a regular file is there; what the system refuses to look at is none."""
    try:
        return path.is_file()
    except OSError:
        return False
