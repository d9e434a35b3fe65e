"""Folders named by content: written once, read by many processes, evicted by age under a quota.

An entry is a folder with a ``manifest.json``. It is written under a temporary name and renamed, so that what can be
seen is whole. Locks are ``flock``: the kernel releases them when a process dies, however it dies.
"""

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from workers.errors import Stopped

MANIFEST = "manifest.json"
IN_USE = "in_use.lock"
LOCK_POLLING_SECONDS = 0.05


class Entry:
    """An entry that is held open: while it is, no process evicts it. A context manager."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._descriptor: int | None = descriptor

    @property
    def manifest(self) -> dict[str, Any]:
        """What the writer recorded."""
        return dict(json.loads((self.folder / MANIFEST).read_text()))

    def close(self) -> None:
        """Let the entry be evicted again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "Entry":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class ContentStore:
    """Entries by key (64 hexadecimal digits) under ``root``, at most ``quota_bytes`` of them beside those in use."""

    def __init__(self, root: Path, quota_bytes: int) -> None:
        self.root = root
        self.quota_bytes = quota_bytes

    def folder(self, key: str) -> Path:
        """Where the entry is, or would be."""
        if len(key) != 64 or not all(character in "0123456789abcdef" for character in key):
            raise ValueError(f"a key is 64 hexadecimal digits, not {key!r}")
        return self.root / key[:2] / key[2:4] / key

    def has(self, key: str) -> bool:
        """Whether a whole entry is there."""
        return (self.folder(key) / MANIFEST).is_file()

    def open(self, key: str) -> Entry:
        """Hold the entry and mark it as used now. ``KeyError`` if there is none."""
        folder = self.folder(key)
        try:
            descriptor = os.open(folder / IN_USE, os.O_RDWR)
        except FileNotFoundError:
            raise KeyError(key) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # An evictor renames the folder under the exclusive lock: the lock just taken may belong to a removed entry.
            if not _is_same_file(descriptor, folder / IN_USE):
                raise KeyError(key)
            os.utime(folder / MANIFEST)
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            raise KeyError(key) from None
        except BaseException:
            os.close(descriptor)
            raise
        return Entry(folder, descriptor)

    @contextmanager
    def write(self, key: str, manifest: dict[str, Any]) -> Iterator[Path]:
        """Give a temporary folder to fill, which becomes the entry at a clean end, unless another writer was first."""
        target = self.folder(key)
        temporary = self.root / ".temporary" / f"{key}-{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        descriptor = os.open(temporary / IN_USE, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        try:
            yield temporary
            (temporary / MANIFEST).write_text(json.dumps(manifest, sort_keys=True))
            for path in temporary.iterdir():
                _synchronize(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.rename(target)
            except OSError:
                if not self.has(key):
                    raise
            _synchronize(target.parent)
            self.make_room()
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            os.close(descriptor)

    @contextmanager
    def lock(self, *keys: str, should_stop: Callable[[], bool] | None = None) -> Iterator[None]:
        """Exclude every other holder, in this process or another, of any of ``keys``. Not reentrant."""
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            # One order for all processes, so that two holders of several keys cannot wait for one another.
            for key in sorted(set(keys)):
                held.enter_context(_exclusive(folder / key, should_stop))
            yield

    def delete(self, key: str) -> bool:
        """Remove the entry. False if it is missing or in use."""
        return self._remove(self.folder(key))

    def make_room(self, needed_bytes: int = 0) -> None:
        """Evict the least recently used entries until ``needed_bytes`` more fit the quota, sparing those in use."""
        self._remove_abandoned()
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, folder in entries:
            if total + needed_bytes <= self.quota_bytes:
                return
            if self._remove(folder):
                total -= size

    def used_bytes(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._entries())

    def _entries(self) -> Iterable[tuple[float, int, Path]]:
        for manifest in self.root.glob(f"[0-9a-f][0-9a-f]/*/*/{MANIFEST}"):
            try:
                size = sum(path.stat().st_size for path in manifest.parent.iterdir())
                yield manifest.stat().st_mtime, size, manifest.parent
            except FileNotFoundError:
                continue

    def _remove(self, folder: Path) -> bool:
        try:
            descriptor = os.open(folder / IN_USE, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            trash = self.root / ".temporary" / f"removed-{uuid.uuid4().hex}"
            trash.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            return False
        finally:
            os.close(descriptor)
        return True

    def _remove_abandoned(self) -> None:
        for folder in self.root.glob(".temporary/*"):
            try:
                descriptor = os.open(folder / IN_USE, os.O_RDWR)
            except FileNotFoundError:
                # Either a writer is between creating the folder and its lock, or a removal was cut short.
                if time.time() - _modified(folder) > 60:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)


@contextmanager
def _exclusive(path: Path, should_stop: Callable[[], bool] | None) -> Iterator[None]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if should_stop is not None and should_stop():
                raise Stopped("stopped while waiting for the same evidence") from None
            time.sleep(LOCK_POLLING_SECONDS)
            continue
        if _is_same_file(descriptor, path):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _synchronize(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
