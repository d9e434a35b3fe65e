"""What the feature store and the image cache need of storage: entries by key, written once, held while they are read.

An implementation may keep the files elsewhere; what is held or written is a local folder meanwhile.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Entry(AbstractContextManager["Entry"], Protocol):
    """An entry that is held open: while it is, no process evicts it."""

    @property
    def folder(self) -> Path:
        """Its files, to be read only."""

    @property
    def manifest(self) -> dict[str, Any]:
        """What the writer recorded."""

    def close(self) -> None:
        """Let the entry be evicted again."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """What lies in a store; ``used_at`` is seconds since 1970, when the entry was last opened or written."""

    key: str
    used_at: float
    bytes: int


class EntryStore(Protocol):
    """Entries by key (64 hexadecimal digits). The key is the only address that one process gives another."""

    @property
    def quota_bytes(self) -> int:
        """What all entries together may take, not counting those in use."""

    def has_many(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that are there."""

    def open(self, key: str) -> Entry:
        """Hold the entry. ``KeyError`` if there is none, or if its files are not what was written."""

    def write(self, key: str, manifest: dict[str, Any]) -> AbstractContextManager[Path]:
        """Give a folder to fill, which becomes the entry at a clean end, whole or not at all.

        Raises:
            StorageFull: the disk has no room.
        """

    def lend(self, reads: Iterable[str], writes: Iterable[str] = ()) -> AbstractContextManager[None]:
        """Have a child process, which knows the folders of this host alone, find ``reads`` there; keep its ``writes``.

        Entries that are not there are passed over: the child says so when it needs one.
        """

    def lock(self, *keys: str, should_stop: Callable[[], bool] | None = None) -> AbstractContextManager[None]:
        """Exclude every other holder, in this process or another, of any of ``keys``; given back when a holder dies."""

    def make_room(self, needed_bytes: int) -> bool:
        """Evict the least recently used entries for ``needed_bytes`` more; whether the disk has that room."""

    def entries(self) -> Iterable[StoredEntry]:
        """All that is there. It takes a look at each."""

    def in_use(self) -> set[str]:
        """Keys of the entries that some process holds open."""

    def verify(self, key: str) -> str:
        """Read all of an entry. What is wrong with it, or nothing; a damaged one is put in quarantine."""

    def delete(self, key: str) -> bool:
        """Remove the entry. False if it is missing or in use."""
