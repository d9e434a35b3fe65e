"""How many bytes a store holds, kept in a file that processes share, so that nothing has to look at every entry."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# A process that dies between changing the store and writing the total leaves it wrong until then.
RECOUNT_SECONDS = 3600.0
# A process that was stopped while it held the total must not stop the others.
PATIENCE_SECONDS = 10.0
POLLING_SECONDS = 0.005
DIGITS = 20


@dataclass
class Total:
    """The bytes as they are while it is held; who adds or removes an entry says so here."""

    bytes: int


class RunningTotal:
    """The total of one store.

    Args:
        path: of the file, in the store's own folder.
        count: looks at every entry; asked when the file tells nothing, and now and then.
    """

    def __init__(self, path: Path, count: Callable[[], int]) -> None:
        self._path = path
        self._count = count

    @contextmanager
    def hold(self) -> Iterator[Total]:
        """Read the total, and write at the end what it has become. Not reentrant.

        While it is held no other process changes the store. It is not waited for beyond ``PATIENCE_SECONDS``.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            # A disk without room for this file has none for entries either, and may still be asked to evict some.
            yield Total(self._count())
            return
        try:
            held = _lock(descriptor)
            known = _read(descriptor) if held else None
            counted_at, total = known if known is not None else (time.time(), Total(self._count()))
            try:
                yield total
            finally:
                if held:
                    _write(descriptor, counted_at, total)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLLING_SECONDS)
        else:
            return True


def _read(descriptor: int) -> tuple[float, Total] | None:
    """When the entries were last counted and what they have come to since; None if that has to be found out anew."""
    try:
        counted_at, total = map(int, os.pread(descriptor, 100, 0).split())
    except ValueError:
        return None
    if total < 0 or not 0 <= time.time() - counted_at <= RECOUNT_SECONDS:
        return None
    return counted_at, Total(total)


def _write(descriptor: int, counted_at: float, total: Total) -> None:
    try:
        # Of one length, so that it can be written over on a disk that is full.
        os.pwrite(descriptor, f"{int(counted_at):{DIGITS}d} {total.bytes:{DIGITS}d}\n".encode(), 0)
    except OSError:
        os.ftruncate(descriptor, 0)
