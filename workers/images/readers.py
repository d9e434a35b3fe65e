"""Where a data set's images and labels are: class folders, or a CSV manifest. Nothing is opened as an image here."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.contracts.datasets import FolderSpec, ManifestSpec
from app.settings import Settings
from workers.errors import DatasetRejected
from workers.images.decode import EXTENSIONS
from workers.paths import lies_under


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that should be an image. ``problem`` says why it cannot even be opened, or is empty."""

    path: str
    class_name: str
    problem: str = ""


def dataset_folder(spec: FolderSpec | ManifestSpec, settings: Settings) -> Path:
    """The resolved folder of a data set by path, checked against the roots."""
    folder = Path(spec.path)
    roots = (*settings.data_roots, settings.datasets_folder)
    if not folder.is_absolute() or not lies_under(folder, roots):
        raise DatasetRejected(
            f"{folder} is not an existing folder under FORERANK_DATA_ROOTS: add its root, or move it there"
        )
    folder = folder.resolve()
    if not folder.is_dir():
        raise DatasetRejected(f"{folder} is not a folder")
    return folder


def folder_candidates(folder: Path, settings: Settings) -> Iterator[Candidate]:
    """Images of an ImageFolder: the first level names the class, deeper folders belong to it."""
    for class_folder in _visible(folder):
        if class_folder.is_dir():
            yield from _walk(folder, Path(class_folder.name), class_folder.name, settings, frozenset())


def _walk(
    folder: Path, relative: Path, class_name: str, settings: Settings, above: frozenset[Path]
) -> Iterator[Candidate]:
    allowed = (folder, *settings.data_roots)
    here = folder / relative
    if not lies_under(here, allowed):
        yield Candidate(str(relative), class_name, "a link that leads outside the data set and FORERANK_DATA_ROOTS")
        return
    resolved = here.resolve()
    if resolved in above:
        yield Candidate(str(relative), class_name, "a link to a folder above it")
        return
    for entry in _visible(here):
        inner = relative / entry.name
        if entry.is_dir():
            yield from _walk(folder, inner, class_name, settings, above | {resolved})
        elif Path(entry.name).suffix.lower() in EXTENSIONS:
            yield Candidate(str(inner), class_name, _problem(folder / inner, allowed))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def manifest_candidates(folder: Path, spec: ManifestSpec, settings: Settings) -> Iterator[Candidate]:
    """Rows of a CSV file with the columns ``path``, ``label`` and, if a split is asked for, ``split``."""
    manifest = folder / spec.manifest
    if not lies_under(manifest, (folder,)) or not manifest.is_file():
        raise DatasetRejected(f"the manifest {spec.manifest} is not a file in the data set's folder")
    split = spec.split
    allowed = (folder, *settings.data_roots)
    seen: set[str] = set()
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            needed = {"path", "label"} | ({"split"} if split is not None else set())
            if missing := sorted(needed - set(rows.fieldnames or ())):
                raise DatasetRejected(
                    f"{spec.manifest} has no column {', '.join(missing)}: its first line must name them"
                )
            for row in rows:
                if split is not None and row["split"] != split:
                    continue
                path, label = row["path"], row["label"]
                if not path or not label:
                    raise DatasetRejected(f"{spec.manifest}, line {rows.line_num}: path and label must not be empty")
                if path in seen:
                    raise DatasetRejected(f"{spec.manifest}, line {rows.line_num}: {path} is listed twice")
                seen.add(path)
                yield Candidate(path, label, _problem(folder / path, allowed))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetRejected(f"{spec.manifest} is not a CSV file in UTF-8: {error}") from error


def _problem(path: Path, allowed: tuple[Path, ...]) -> str:
    try:
        if not path.exists():
            return "no such file"
    except (OSError, ValueError) as error:
        return f"not a usable path: {error}"
    if not lies_under(path, allowed):
        return "a link that leads outside the data set and FORERANK_DATA_ROOTS"
    return ""
