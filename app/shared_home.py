"""Files of ``FORERANK_HOME`` that every host may need, under the same names in the shared storage.

Hosts that share the folder itself have nothing to do here: without ``FORERANK_STORE_URL`` nothing is copied. With it
a file is stored by the host that made it, and copied by each that reads it; it never changes afterwards. Unlike
evidence such files cannot be computed again, so no quota evicts them.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from app.settings import Settings
from app.storage import objects_of

FOLDER = "home"


def share_file(settings: Settings, file: Path) -> None:
    """Let other hosts have a file of this host."""
    if objects := objects_of(settings):
        objects.put(file, _name(settings, file))


def share_folder(settings: Settings, folder: Path) -> None:
    """Let other hosts have a folder of this host, as it is now."""
    if objects := objects_of(settings):
        objects.put_folder(folder, _archive(settings, folder))


def fetch_file(settings: Settings, file: Path) -> None:
    """Have a file here that another host shared; nothing happens if there is none."""
    objects = objects_of(settings)
    if objects is not None and not file.exists():
        with suppress(FileNotFoundError):
            objects.get(_name(settings, file), file)


def fetch_folder(settings: Settings, folder: Path) -> None:
    """Have a folder here that another host shared; nothing happens if there is none."""
    objects = objects_of(settings)
    if objects is not None and not folder.exists():
        with suppress(FileNotFoundError):
            objects.get_folder(_archive(settings, folder), folder)


def shared_bytes(settings: Settings, folder: Path) -> int:
    """Of the files below a folder, wherever they are."""
    if objects := objects_of(settings):
        return sum(file.bytes for file in objects.list(_name(settings, folder)))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove(settings: Settings, path: Path) -> None:
    """Remove a file or a folder, here and from the shared storage. Other hosts sweep their copies."""
    shutil.rmtree(path, ignore_errors=True)
    if not path.is_dir():
        path.unlink(missing_ok=True)
    if objects := objects_of(settings):
        objects.delete([_name(settings, path), _archive(settings, path)])
        objects.delete_folder(_name(settings, path))


def _name(settings: Settings, path: Path) -> str:
    return f"{FOLDER}/{path.relative_to(settings.home).as_posix()}"


def _archive(settings: Settings, folder: Path) -> str:
    return f"{_name(settings, folder)}.tar"
