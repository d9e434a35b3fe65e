"""Entries as objects of an S3-compatible service, which hosts share, read and written through a folder of each host.

The files of an entry lie under ``KEY/UPLOAD/``, with an UPLOAD of its own for every writer; the object
``KEY/manifest``, written last, names one of them and the digest of each file. What it does not name is never read. Of
two writers of one key either may win, since equal keys mean equal content.

The service has what there is, the database who uses it: last use, and leases that keep what is read from being evicted.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

import structlog
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from app.db.outages import is_outage
from app.db.repositories.storage import SharedEntries
from app.db.session import Database
from app.settings import Settings
from app.storage import Objects, StoredFile, objects_of
from workers.errors import StorageFull
from workers.store.entries import Entry, EntryStore, StoredEntry
from workers.store.folder import MANIFEST, QUARANTINED_ENTRIES, FolderEntry, FolderStore, digest_of

FORMAT_VERSION = 1
NAME_OF_MANIFEST = "manifest"
QUARANTINE = "quarantine"
# Not where writers work: what they leave there without a lock is removed.
SCRATCH = ".verification"
# A reader holds its own copy as well, so that a longer read loses nothing but the entry's place in the service.
LEASE_SECONDS = 3600.0
# No upload takes longer; what no manifest names after that was left by a writer that died or came second.
UPLOAD_SECONDS = 3600.0

log = structlog.stdlib.get_logger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SharedManifest:
    """What the service holds of an entry.

    Attributes:
        upload: the folder of its files.
        files: name -> SHA-256.
        size: bytes of all files.
        manifest: what the writer recorded.
    """

    upload: str
    files: dict[str, str]
    size: int
    manifest: dict[str, Any]
    format: int = FORMAT_VERSION

    def write(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def read(cls, content: bytes) -> Self:
        """What `write` gave. ``ValueError`` if it is anything else."""
        try:
            read = cls(**json.loads(content))
            if read.format != FORMAT_VERSION or any(Path(name).name != name for name in (read.upload, *read.files)):
                raise ValueError("it has another format, or names that lead elsewhere")
        except TypeError as error:
            raise ValueError(f"it is not the manifest of an entry: {error}") from error
        return read


class DamagedEntry(Exception):
    """Files of the service are not what was written."""


class SharedEntry(AbstractContextManager["SharedEntry"]):
    """An entry that is held open: this host's copy, and a lease of the service's."""

    def __init__(self, copy: Entry, end_lease: Callable[[], object]) -> None:
        self._copy = copy
        self._end_lease = end_lease
        self.folder = copy.folder

    @property
    def manifest(self) -> dict[str, Any]:
        """What the writer recorded."""
        return self._copy.manifest

    def close(self) -> None:
        """Let the entry be evicted again, here and from the service."""
        self._copy.close()
        self._end_lease()

    def __exit__(self, *exception: object) -> None:
        self.close()


class ObjectStore:
    """Entries below one folder of the service; an `EntryStore`.

    Args:
        objects: the service.
        kind: names the folder, and the entries in the database.
        database: of the deployment.
        local: this host's copies. Its quota is that of the service too.
    """

    def __init__(self, objects: Objects, kind: str, database: Database, local: FolderStore) -> None:
        self._objects = objects
        self._kind = kind
        self._database = database
        self.local = local
        self.quota_bytes = local.quota_bytes

    def has_many(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that the service has."""
        names = {self._name(key): key for key in keys}
        return {names[name] for name in self._objects.read_many(names)}

    def open(self, key: str) -> SharedEntry:
        """Hold this host's copy, fetched if it has none, and mark the entry as used now.

        Raises:
            KeyError: there is none, or its files are not what was written; such an entry is put in quarantine.
            StorageFull: there is no room for the copy.
        """
        # First, so that nobody evicts the entry while it is fetched.
        lease = self._tell(lambda entries: entries.lease(key, seconds=LEASE_SECONDS))

        def end_lease() -> None:
            if lease is not None:
                self._tell(lambda entries: entries.end_lease(lease))

        try:
            return SharedEntry(self._open_copy(key), end_lease)
        except BaseException:
            end_lease()
            raise

    @contextmanager
    def write(self, key: str, manifest: dict[str, Any]) -> Iterator[Path]:
        """Give a folder to fill, which becomes the entry at a clean end, unless another writer was first.

        Raises:
            StorageFull: this host's disk has no room.
        """
        with self.local.write(key, manifest) as folder:
            yield folder
        self._publish([key])

    @contextmanager
    def lend(self, reads: Iterable[str], writes: Iterable[str] = ()) -> Iterator[None]:
        """Fetch and hold ``reads`` for a child process; what it has made of ``writes`` at a clean end is stored."""
        with ExitStack() as held:
            for key in dict.fromkeys(reads):
                try:
                    held.enter_context(self.open(key))
                except KeyError:
                    continue
            yield
            self._publish(writes)

    def lock(self, *keys: str, should_stop: Callable[[], bool] | None = None) -> AbstractContextManager[None]:
        """Exclude every other holder on this host; two hosts may both compute an entry, and agree."""
        return self.local.lock(*keys, should_stop=should_stop)

    def make_room(self, needed_bytes: int) -> bool:
        """Evict the least recently used entries, sparing those in use, for ``needed_bytes`` more, there and here."""
        self._evict(needed_bytes)
        return self.local.make_room(needed_bytes)

    def entries(self) -> Iterator[StoredEntry]:
        """All that the service has. An entry of which the database knows nothing was used when it was written."""
        used = {row.key: row.used_at for row in self._ask(SharedEntries.oldest_first)}
        for key, files in self._listed().items():
            if written := [file.modified for file in files if file.name == self._name(key)]:
                yield StoredEntry(key, used.get(key, written[0]), sum(file.bytes for file in files))

    def in_use(self) -> set[str]:
        """Keys of the entries that somebody reads."""
        return self._ask(SharedEntries.in_use)

    def delete(self, key: str) -> bool:
        """Remove the entry, and this host's copy. False if it is missing or in use."""
        names = [file.name for file in self._objects.list(self._folder(key))]
        if self._name(key) not in names or not self._ask(lambda entries: entries.forget(key)):
            return False
        # Before its files: who finds it expects them.
        self._objects.delete([self._name(key)])
        self._objects.delete(name for name in names if name != self._name(key))
        self.local.delete(key)
        return True

    def verify(self, key: str) -> str:
        """Read all of an entry. What is wrong with it, or nothing; a damaged one is put in quarantine."""
        with TemporaryDirectory(dir=self._scratch()) as folder:
            try:
                self._fetch(key, self._manifest(key), Path(folder))
            except KeyError:
                return ""
            except DamagedEntry as damage:
                self._quarantine(key, str(damage))
                return str(damage)
        return ""

    def collect(self) -> int:
        """Remove what writers left that died or came second, and have the database know what there is.

        Returns:
            The number of files that were removed.
        """
        known = {row.key for row in self._ask(SharedEntries.oldest_first)}
        listed = self._listed()
        whole = {key for key, files in listed.items() if self._name(key) in {file.name for file in files}}
        for key in whole - known:
            size = sum(file.bytes for file in listed[key])
            modified = max(file.modified for file in listed[key])
            self._ask(partial(_note, key=key, size=size, used_at=modified))
        for key in known - whole:
            self._ask(partial(_forget, key=key))
        abandoned = [file.name for key, files in listed.items() for file in self._abandoned(key, files)]
        self._objects.delete(abandoned)
        return len(abandoned)

    def _abandoned(self, key: str, files: list[StoredFile]) -> list[StoredFile]:
        data = [file for file in files if file.name != self._name(key)]
        old = [file for file in data if file.modified < time.time() - UPLOAD_SECONDS]
        is_whole = len(data) < len(files)
        if not old or (is_whole and len({file.name.rsplit("/", 1)[0] for file in data}) == 1):
            return []
        try:
            kept = f"{self._folder(key)}/{self._manifest(key).upload}/"
        except (KeyError, DamagedEntry):
            kept = None
        return [file for file in old if kept is None or not file.name.startswith(kept)]

    def _open_copy(self, key: str) -> Entry:
        try:
            return self.local.open(key)
        except KeyError:
            pass
        try:
            manifest = self._manifest(key)
            if not self.local.make_room(manifest.size):
                raise StorageFull(f"the disk has no room for {manifest.size / 1e6:.1f} MB of the shared storage")
            with self.local.write(key, manifest.manifest) as folder:
                self._fetch(key, manifest, folder)
        except DamagedEntry as damage:
            self._quarantine(key, str(damage))
            raise KeyError(key) from None
        return self.local.open(key)

    def _manifest(self, key: str) -> SharedManifest:
        """Raises `KeyError`, `DamagedEntry`."""
        try:
            return SharedManifest.read(self._objects.read(self._name(key)))
        except FileNotFoundError:
            raise KeyError(key) from None
        except ValueError as error:
            raise DamagedEntry(f"its manifest cannot be read: {error}") from error

    def _fetch(self, key: str, manifest: SharedManifest, folder: Path) -> None:
        """Fill a folder with the files. Raises `KeyError` if the entry goes meanwhile, `DamagedEntry`."""
        for name, digest in manifest.files.items():
            try:
                self._objects.get(f"{self._folder(key)}/{manifest.upload}/{name}", folder / name)
            except FileNotFoundError:
                if self._manifest(key).upload != manifest.upload:
                    raise KeyError(key) from None
                raise DamagedEntry(f"{name} is missing") from None
            if digest_of(folder / name) != digest:
                raise DamagedEntry(f"{name} is not what was written")

    def _publish(self, keys: Iterable[str]) -> None:
        """Store this host's copies of the entries that the service does not have."""
        wanted = list(dict.fromkeys(keys))
        present = self.has_many(wanted)
        for key in wanted:
            if key in present:
                continue
            try:
                copy = self.local.open(key)
            except KeyError:
                continue
            with copy:
                self._upload(key, copy)

    def _upload(self, key: str, copy: FolderEntry) -> None:
        files = copy.digests
        size = sum((copy.folder / name).stat().st_size for name in files)
        self._evict(size)
        upload = uuid.uuid4().hex
        for name in files:
            self._objects.put(copy.folder / name, f"{self._folder(key)}/{upload}/{name}")
        manifest = SharedManifest(upload, files, size, copy.manifest).write()
        self._objects.write(self._name(key), manifest)
        self._tell(lambda entries: entries.note(key, size + len(manifest)))

    def _evict(self, needed_bytes: int) -> None:
        total = self._tell(SharedEntries.total)
        if total is None or total + needed_bytes <= self.quota_bytes:
            return
        used = self.in_use()
        for row in self._ask(SharedEntries.oldest_first):
            if total + needed_bytes <= self.quota_bytes:
                return
            if row.key not in used and self.delete(row.key):
                total -= row.bytes

    def _quarantine(self, key: str, problem: str) -> None:
        """Put an entry aside, so that it is computed again and an operator can look at what happened to it."""
        log.error("a stored entry is damaged and will be computed again", problem=problem, entry=key, kind=self._kind)
        aside = f"{self._kind}-{QUARANTINE}/{key}-{uuid.uuid4().hex}"
        name = self._name(key)
        # Without it nobody finds the files.
        self._objects.move(name, f"{aside}/{MANIFEST}")
        for file in self._objects.list(self._folder(key)):
            self._objects.move(file.name, f"{aside}/{file.name.removeprefix(self._folder(key))}")
        self._tell(partial(_forget, key=key))
        folders: dict[str, float] = {}
        for file in self._objects.list(f"{self._kind}-{QUARANTINE}"):
            folder = "/".join(file.name.split("/")[:2])
            folders[folder] = max(file.modified, folders.get(folder, 0.0))
        for folder in sorted(folders, key=folders.__getitem__)[:-QUARANTINED_ENTRIES]:
            self._objects.delete_folder(folder)

    def _listed(self) -> dict[str, list[StoredFile]]:
        """Key -> its files."""
        listed: dict[str, list[StoredFile]] = {}
        for file in self._objects.list(self._kind):
            listed.setdefault(file.name.split("/")[1], []).append(file)
        return listed

    def _folder(self, key: str) -> str:
        return f"{self._kind}/{self.local.folder(key).name}"

    def _name(self, key: str) -> str:
        return f"{self._folder(key)}/{NAME_OF_MANIFEST}"

    def _scratch(self) -> Path:
        folder = self.local.root / SCRATCH
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _ask(self, work: Callable[[SharedEntries], Result]) -> Result:
        with self._database.transaction() as session:
            return work(SharedEntries(session, self._kind))

    def _tell(self, work: Callable[[SharedEntries], Result]) -> Result | None:
        """As `_ask`, but an outage of the database stops nobody from reading and writing entries."""
        try:
            return self._ask(work)
        except SQLAlchemyError as error:
            if not is_outage(error):
                raise
            log.warning("the use of shared entries was not written: the database does not answer")
            return None


def _note(entries: SharedEntries, *, key: str, size: int, used_at: float) -> None:
    entries.note(key, size, used_at=used_at)


def _forget(entries: SharedEntries, *, key: str) -> bool:
    return entries.forget(key)


def shared(settings: Settings, kind: str, local: FolderStore) -> EntryStore:
    """The entries that hosts share by these settings: the folder itself, or what it is a copy of."""
    objects = objects_of(settings)
    return local if objects is None else ObjectStore(objects, kind, _database(settings.url), local)


@cache
def _database(url: URL) -> Database:
    """One pool of connections a process, for all stores."""
    return Database(url, pool_size=2)
