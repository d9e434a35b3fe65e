"""Data sets that arrive as archives.

An upload is unpacked in a folder of its own under ``datasets/.incoming``, locked by the process that receives it, and
moved to its place when it is whole. The lock goes with the process, so the next start finds what a crash left.
"""

import csv
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from sqlalchemy.orm import Session

from app import shared_home
from app.archives import MEGABYTE, READABLE_SUFFIXES, Limits, TooManyBytes, class_root, safe_path, unpack
from app.contracts.caller import Caller
from app.contracts.datasets import DatasetSpec, FolderSpec, ManifestSpec
from app.db.repositories.datasets import Datasets
from app.db.session import Database
from app.db.tables import new_id
from app.errors import Invalid
from app.jobs import Jobs
from app.paths import upload_folder
from app.schemas.datasets import DatasetAnswer, DatasetDescription
from app.services import datasets, usage
from app.settings import Settings

INCOMING = ".incoming"
TEMPORARY = "temporary"
MANIFEST = "labels.csv"


@dataclass(frozen=True, slots=True)
class Incoming:
    """An upload on its way in: the id that it will have, and a folder that is gone at the end."""

    id: str
    folder: Path


@contextmanager
def spooled_at_home(settings: Settings) -> Iterator[None]:
    """Have this process's temporary files, bodies of forms among them, lie under ``FORERANK_HOME``.

    They have no names there, so a crash leaves nothing.
    """
    folder = settings.home / TEMPORARY
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def incoming(settings: Settings) -> Iterator[Incoming]:
    """A place to receive an upload; leave it after the transaction that registers the upload.

    An exception removes the upload from its final place too.
    """
    identifier = new_id("ds")
    upload = Incoming(identifier, settings.datasets_folder / INCOMING / identifier)
    descriptor: int | None = None
    try:
        upload.folder.mkdir(parents=True)
        descriptor = os.open(upload.folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield upload
    except BaseException:
        shared_home.remove(settings, upload_folder(settings, upload.id))
        raise
    finally:
        shutil.rmtree(upload.folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def sweep(settings: Settings, database: Database) -> None:
    """Remove uploads whose process died before they were registered."""
    folder = settings.datasets_folder / INCOMING
    if not folder.is_dir():
        return
    for left in folder.iterdir():
        try:
            descriptor = os.open(left, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with database.reading() as session:
                registered = Datasets(session).get(left.name) is not None
            if not registered:
                shared_home.remove(settings, upload_folder(settings, left.name))
            shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            # Another process is receiving it.
            continue
        finally:
            os.close(descriptor)


def register(
    session: Session,
    jobs: Jobs,
    settings: Settings,
    caller: Caller,
    upload: Incoming,
    body: DatasetDescription,
    *,
    archive: BinaryIO,
    archive_name: str,
    manifest: BinaryIO | str | None,
    room: int | None,
) -> DatasetAnswer:
    """Check and unpack an archive, move it to its place, store the data set and have a worker inspect it.

    Args:
        manifest: a CSV file, or the name of one in the archive.
        room: bytes that the caller may still store; None: any number.

    Raises:
        QuotaExceeded: the images are more than that.
        Invalid, TooLarge: the archive or the manifest cannot be taken; the detail says why.
        Conflict: the caller has a data set of that name.
    """
    unpacked = upload.folder / "unpacked"
    unpacked.mkdir()
    largest = int(settings.upload_expanded_limit_megabytes * MEGABYTE)
    expanded = largest if room is None else min(largest, room)
    try:
        unpack(archive, unpacked, limits=Limits(entries=settings.upload_entry_limit, expanded_bytes=expanded))
    except Invalid as error:
        raise Invalid.at("/file", error.detail) from error
    except TooManyBytes as error:
        if expanded < largest and error.allowed == expanded:
            raise usage.exceeded(session, settings, caller.owner) from error
        raise
    root = class_root(unpacked)
    manifest_name = _place_manifest(root, manifest, body.split)
    if manifest_name is None:
        _check_class_folders(root)
    final = upload_folder(settings, upload.id)
    spec: DatasetSpec = FolderSpec(path=str(final), uploaded=True)
    if manifest_name is not None:
        spec = ManifestSpec(path=str(final), manifest=manifest_name, split=body.split, uploaded=True)
    size = usage.size_of(root)
    usage.check(session, settings, caller.owner, adding=size)
    # Stored before it is moved: a name that is taken leaves nothing to undo.
    row = datasets.add(
        session,
        jobs,
        caller,
        spec=spec,
        name=body.name or _name_of(archive_name) or upload.id,
        sample_of=body.sample_of,
        shared=body.shared,
        identifier=upload.id,
        stored_bytes=size,
    )
    root.replace(final)
    shared_home.share_folder(settings, final)
    return datasets.answer(row)


def _check_class_folders(root: Path) -> None:
    classes = [entry for entry in root.iterdir() if entry.is_dir() and any(entry.iterdir())]
    if not classes:
        raise Invalid.at("/file", "the archive has no class folders: it needs one per class, or a manifest")


def _place_manifest(root: Path, manifest: BinaryIO | str | None, split: str | None) -> str | None:
    if manifest is None:
        if split is not None:
            raise Invalid.at("/split", "a split needs a `manifest` that names it")
        return None
    if isinstance(manifest, str):
        try:
            path = safe_path(manifest)
        except Invalid as error:
            raise Invalid.at("/manifest", error.detail) from error
        if path is None or not (root / path).is_file():
            raise Invalid.at("/manifest", f"the archive holds no file {manifest}")
    else:
        path = PurePosixPath(MANIFEST)
        if (root / path).exists():
            raise Invalid.at("/manifest", f"the archive holds {MANIFEST} already; name it as `manifest` instead")
        with (root / path).open("xb") as file:
            shutil.copyfileobj(manifest, file)
    _check_columns(root / path, split)
    return str(path)


def _check_columns(manifest: Path, split: str | None) -> None:
    needed = {"path", "label"} | ({"split"} if split is not None else set())
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            columns = next(csv.reader([file.readline(64_000)]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise Invalid.at("/manifest", "the manifest is not a CSV file in UTF-8") from error
    if missing := sorted(needed - set(columns)):
        raise Invalid.at("/manifest", f"the manifest's first line does not name the columns {', '.join(missing)}")


def _name_of(file_name: str) -> str:
    name = "".join(
        character for character in file_name.replace("\\", "/").rsplit("/", 1)[-1] if character.isprintable()
    )
    for suffix in READABLE_SUFFIXES:
        name = name.removesuffix(suffix)
    return name.strip()[:200].strip()
