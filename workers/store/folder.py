"""Entries as folders named by content: written once, read by many processes, evicted by age.

An entry is a folder with a ``manifest.json`` and the SHA-256 of every file in ``SHA256SUMS``. It is written under a
temporary name and renamed, so that what can be seen is whole. Locks are ``flock``: the kernel releases them when a
process dies, however it dies.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import structlog

from workers.errors import Stopped, StorageFull
from workers.store.disk import DISK_IS_FULL
from workers.store.entries import StoredEntry
from workers.store.total import RunningTotal, Total

TOTAL = ".total"
MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
IN_USE = "in_use.lock"
QUARANTINE = ".quarantine"
QUARANTINED_ENTRIES = 10
LOCK_POLLING_SECONDS = 0.05

log = structlog.stdlib.get_logger(__name__)

_Signature = tuple[tuple[str, int, int, int], ...]
# Files are hashed once in a process, and again when one of them has another inode, size or time.
_sound: dict[Path, _Signature] = {}


class FolderEntry:
    """An entry that is held open: while it is, no process evicts it. A context manager."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._descriptor: int | None = descriptor

    @property
    def manifest(self) -> dict[str, Any]:
        """What the writer recorded."""
        return dict(json.loads((self.folder / MANIFEST).read_text()))

    @property
    def digests(self) -> dict[str, str]:
        """File -> SHA-256, of what the writer put into the folder."""
        return {name: digest for name, digest in _checksums(self.folder).items() if name != MANIFEST}

    def close(self) -> None:
        """Let the entry be evicted again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "FolderEntry":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class FolderStore:
    """Entries under ``root``, which processes and hosts may share; an `EntryStore`.

    Args:
        root: is created when it is needed.
        quota_bytes: of all entries together, not counting those in use.
        reserve_bytes: of the disk, left to others: entries are evicted for it, but a write that fits the disk is done.
    """

    def __init__(self, root: Path, quota_bytes: int, reserve_bytes: int = 0) -> None:
        self.root = root
        self.quota_bytes = quota_bytes
        self.reserve_bytes = reserve_bytes
        self._total = RunningTotal(root / TOTAL, self.used_bytes)
        # Found by the last look at all entries: those that were not used since are still the oldest there are.
        self._oldest: deque[StoredEntry] = deque()

    def folder(self, key: str) -> Path:
        """Where the entry is, or would be."""
        if len(key) != 64 or not all(character in "0123456789abcdef" for character in key):
            raise ValueError(f"a key is 64 hexadecimal digits, not {key!r}")
        return self.root / key[:2] / key[2:4] / key

    def has(self, key: str) -> bool:
        """Whether a whole entry is there. One without checksums does not count: nothing could vouch for it."""
        return (self.folder(key) / CHECKSUMS).is_file()

    def has_many(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that are there."""
        return {key for key in keys if self.has(key)}

    def open(self, key: str) -> FolderEntry:
        """Hold the entry and mark it as used now.

        Raises:
            KeyError: there is none, or its files are not what was written; such an entry is put in quarantine.
        """
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
            if problem := _problem(folder):
                self._quarantine(folder, descriptor, problem)
                raise KeyError(key)
            os.utime(descriptor)
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            raise KeyError(key) from None
        except BaseException:
            os.close(descriptor)
            raise
        return FolderEntry(folder, descriptor)

    @contextmanager
    def write(self, key: str, manifest: dict[str, Any]) -> Iterator[Path]:
        """Give a temporary folder to fill, which becomes the entry at a clean end, unless another writer was first.

        Raises:
            StorageFull: the disk has no room; nothing is left of the entry.
        """
        target = self.folder(key)
        temporary = self.root / ".temporary" / f"{key}-{uuid.uuid4().hex}"
        descriptor: int | None = None
        try:
            temporary.mkdir(parents=True)
            descriptor = os.open(temporary / IN_USE, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield temporary
            (temporary / MANIFEST).write_text(json.dumps(manifest, sort_keys=True))
            names = sorted(_names(temporary) - {IN_USE})
            (temporary / CHECKSUMS).write_text("".join(f"{digest_of(temporary / name)}  {name}\n" for name in names))
            for folder, _, files in os.walk(temporary):
                for name in (*files, "."):
                    _synchronize(Path(folder, name))
            target.parent.mkdir(parents=True, exist_ok=True)
            size = _size(temporary)
            with self._total.hold() as total:
                try:
                    temporary.rename(target)
                    total.bytes += size
                except OSError:
                    if not self.has(key):
                        self._remove(target, total)
                        temporary.rename(target)
                        total.bytes += size
                self._evict(total, 0, 0)
            _synchronize(target.parent)
        except OSError as error:
            if error.errno in DISK_IS_FULL:
                raise StorageFull(f"the disk of {self.root} is full: free some of it") from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if descriptor is not None:
                os.close(descriptor)

    def lend(self, reads: Iterable[str], writes: Iterable[str] = ()) -> AbstractContextManager[None]:
        """Nothing to do: a child process reads and writes the same folder."""
        return nullcontext()

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
        with self._total.hold() as total:
            return self._remove(self.folder(key), total)

    def make_room(self, needed_bytes: int) -> bool:
        """Evict the least recently used entries, sparing those in use, for ``needed_bytes`` more.

        Returns:
            Whether the disk has that room. The quota may be exceeded by entries in use.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        with self._total.hold() as total:
            self._evict(total, needed_bytes, needed_bytes + self.reserve_bytes)
        return self._free_bytes() >= needed_bytes

    def used_bytes(self) -> int:
        """Bytes of all entries, each looked at."""
        return sum(entry.bytes for entry in self.entries())

    def entries(self) -> Iterator[StoredEntry]:
        """All entries; those that go meanwhile may be missing."""
        for manifest in self.root.glob(f"[0-9a-f][0-9a-f]/*/*/{MANIFEST}"):
            folder = manifest.parent
            try:
                yield StoredEntry(folder.name, (folder / IN_USE).stat().st_mtime, _size(folder))
            except FileNotFoundError:
                continue

    def in_use(self) -> set[str]:
        """Keys of the entries that some process holds open, each looked at."""
        return {lock.parent.name for lock in self.root.glob(f"[0-9a-f][0-9a-f]/*/*/{IN_USE}") if _is_held(lock)}

    def verify(self, key: str) -> str:
        """Hash the files of an entry, unless this process did. What is wrong with it, or nothing.

        A damaged entry is put in quarantine.
        """
        if not self.has(key):
            return ""
        problem = _problem(self.folder(key))
        if problem:
            with suppress(KeyError):
                self.open(key).close()
        return problem

    def _evict(self, total: Total, needed_bytes: int, free_bytes: int) -> None:
        """Remove entries until ``needed_bytes`` more fit the quota and ``free_bytes`` of the disk are free."""
        has_looked = False
        while total.bytes + needed_bytes > self.quota_bytes or (free_bytes and self._free_bytes() < free_bytes):
            if not self._oldest:
                if has_looked:
                    return
                self._oldest.extend(sorted(self.entries(), key=lambda entry: entry.used_at))
                total.bytes = sum(entry.bytes for entry in self._oldest)
                has_looked = True
                continue
            entry = self._oldest.popleft()
            folder = self.folder(entry.key)
            if _modified(folder / IN_USE) == entry.used_at:
                self._remove(folder, total)

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def _remove(self, folder: Path, total: Total) -> bool:
        try:
            descriptor = os.open(folder / IN_USE, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            trash = self.root / ".temporary" / f"removed-{uuid.uuid4().hex}"
            trash.parent.mkdir(parents=True, exist_ok=True)
            size = _size(folder)
            folder.rename(trash)
            total.bytes -= size
            shutil.rmtree(trash, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            return False
        finally:
            os.close(descriptor)
        return True

    def _quarantine(self, folder: Path, descriptor: int, problem: str) -> None:
        """Put an entry aside, so that it is computed again and an operator can look at what happened to it."""
        quarantine = self.root / QUARANTINE
        quarantine.mkdir(parents=True, exist_ok=True)
        # Another process may have done this, and a sound entry may have taken the place.
        if not _is_same_file(descriptor, folder / IN_USE):
            return
        aside = quarantine / f"{folder.name}-{uuid.uuid4().hex}"
        with self._total.hold() as total:
            size = _size(folder)
            folder.rename(aside)
            total.bytes -= size
        log.error("a stored entry is damaged and will be computed again", problem=problem, entry=str(aside))
        oldest_first = sorted(quarantine.iterdir(), key=_modified)
        for old in oldest_first[:-QUARANTINED_ENTRIES]:
            shutil.rmtree(old, ignore_errors=True)

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


def _problem(folder: Path) -> str:
    """What is wrong with an entry's files, or nothing."""
    try:
        digests = _checksums(folder)
        names = _names(folder) - {IN_USE, CHECKSUMS}
        if names != set(digests):
            return f"{CHECKSUMS} names {sorted(digests)}, but there are {sorted(names)}"
        signature = tuple(_stamp(folder / name) for name in (CHECKSUMS, *digests))
        if _sound.get(folder) == signature:
            return ""
        for name, digest in digests.items():
            if digest_of(folder / name) != digest:
                return f"{name} is not what was written"
    except (OSError, ValueError) as error:
        return f"its files cannot be read: {error}"
    _sound[folder] = signature
    return ""


def _checksums(folder: Path) -> dict[str, str]:
    lines = (folder / CHECKSUMS).read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _names(folder: Path) -> set[str]:
    """Of all files in and below a folder, relative to it."""
    return {f"{inner}/{name}".removeprefix(f"{folder}/") for inner, _, names in os.walk(folder) for name in names}


def _size(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in _names(folder))


def _stamp(path: Path) -> tuple[str, int, int, int]:
    status = path.stat()
    return path.name, status.st_ino, status.st_size, status.st_mtime_ns


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


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
