"""Unpack an archive that a stranger sent.

Nothing in it is believed: names, links, counts and sizes are checked before anything is written, and what is written is
counted, since headers lie.
"""

import gzip
import io
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from app.errors import ForerankError, Invalid, TooLarge

CHUNK = 1 << 18
MEGABYTE = 1_000_000
LONGEST_NAME = 1024
LONGEST_PART = 255
DEEPEST_FOLDER = 32
# Zip's directory and tar's extended headers are read in one piece, of a length that the archive states.
LARGEST_PIECE = 32 * MEGABYTE
# Images hardly shrink; what grows so much was made to grow.
SUSPECT_RATIO = 100
SUSPECT_FROM = 100 * MEGABYTE

IGNORED_NAMES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
IGNORED_FOLDERS = frozenset({"__MACOSX"})
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".jar")
ARCHIVE_STARTS = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!",
    b"\x28\xb5\x2f\xfd",
)
TAR_MAGIC = slice(257, 262)
# Of what `unpack` reads.
READABLE_SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")


class TooManyBytes(TooLarge):
    """The archive expands to more than ``allowed`` bytes."""

    def __init__(self, allowed: int) -> None:
        super().__init__(f"the archive expands to more than {allowed / MEGABYTE:.0f} MB")
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold."""

    entries: int
    expanded_bytes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    is_folder: bool
    size: int
    open: Callable[[], IO[bytes]]


class _Bounded(io.RawIOBase):
    """A file that refuses to give a piece, or altogether, more than an honest archive needs."""

    def __init__(self, file: gzip.GzipFile | IO[bytes], *, allowed: int | None = None, overhead: int = 0) -> None:
        self._file = file
        self._allowed = allowed
        self._overhead = overhead

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if size > LARGEST_PIECE:
            raise TooLarge("a header of the archive states a size that no honest archive has")
        piece = self._file.read(size if size >= 0 else LARGEST_PIECE)
        self._check(self._file.tell())
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_SET:
            self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def _check(self, position: int) -> None:
        if self._allowed is not None and position > self._allowed + self._overhead:
            raise TooManyBytes(self._allowed)


def _bounded(file: gzip.GzipFile | IO[bytes], *, allowed: int | None = None, overhead: int = 0) -> IO[bytes]:
    return cast(IO[bytes], _Bounded(file, allowed=allowed, overhead=overhead))


def unpack(archive: BinaryIO, destination: Path, *, limits: Limits) -> None:
    """Write the files of a zip, tar or tar.gz below an empty folder; a failure may leave some of them there.

    Raises:
        Invalid: it is not such an archive, is damaged, or holds what no set of images needs: links, devices, absolute
            names, names with ``..``, the same name twice, archives.
        TooLarge: more entries or bytes than the limits.
    """
    allowed = min(limits.expanded_bytes, SUSPECT_FROM + SUSPECT_RATIO * archive.seek(0, io.SEEK_END))
    archive.seek(0)
    try:
        with _entries(archive, allowed, limits.entries) as entries:
            _write(entries, destination, allowed)
    except ForerankError:
        raise
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        # zipfile's own, for a compression that it does not know and for a file under a password.
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise Invalid(f"the archive is damaged or cannot be read: {error}") from error


@contextmanager
def _entries(file: IO[bytes], allowed: int, count: int) -> Iterator[Iterator[_Entry]]:
    start = file.read(512)
    file.seek(0)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        with zipfile.ZipFile(_bounded(file)) as container:
            if len(container.infolist()) > count:
                raise _too_many(count)
            total = sum(info.file_size for info in container.infolist())
            if total > allowed:
                raise TooManyBytes(allowed)
            yield _zip_entries(container)
    elif start.startswith(b"\x1f\x8b"):
        # Headers and padding come on top of the files themselves.
        overhead = count * 2048
        with (
            gzip.GzipFile(fileobj=file, mode="rb") as expanded,
            tarfile.open(fileobj=_bounded(expanded, allowed=allowed, overhead=overhead), mode="r:") as tar,
        ):
            yield _tar_entries(tar, count)
    elif start[TAR_MAGIC] == b"ustar":
        with tarfile.open(fileobj=_bounded(file), mode="r:") as tar:
            yield _tar_entries(tar, count)
    else:
        raise Invalid("the file is not a zip, a tar or a tar.gz")


def _too_many(count: int) -> TooLarge:
    return TooLarge(f"the archive has more than {count} entries; register large data sets by path instead")


def _zip_entries(container: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in container.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise Invalid(f"{_shown(info.filename)} is a link or a device; an upload holds plain files only")
        if info.flag_bits & 0x1:
            raise Invalid(f"{_shown(info.filename)} is encrypted")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise Invalid(f"{_shown(info.filename)} is compressed in an unusual way; use deflate or none")
        yield _Entry(info.filename, info.is_dir(), info.file_size, lambda info=info: container.open(info))  # type: ignore[misc]


def _tar_entries(tar: tarfile.TarFile, count: int) -> Iterator[_Entry]:
    for number, member in enumerate(tar):
        if number >= count:
            raise _too_many(count)
        if not (member.isreg() or member.isdir()) or member.issparse():
            raise Invalid(f"{_shown(member.name)} is a link, a device or sparse; an upload holds plain files only")
        yield _Entry(member.name, member.isdir(), member.size, lambda member=member: _opened(tar, member))  # type: ignore[misc]


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    if file is None:
        raise Invalid(f"{_shown(member.name)} cannot be read")
    return file


def _write(entries: Iterator[_Entry], destination: Path, allowed: int) -> None:
    left = allowed
    files: set[str] = set()
    folders: set[str] = {"."}
    for entry in entries:
        path = safe_path(entry.name)
        if path is None:
            continue
        names = [str(parent) for parent in path.parents]
        if str(path) in files or any(name in files for name in names) or (str(path) in folders and not entry.is_folder):
            raise Invalid(f"the archive holds {_shown(entry.name)} twice")
        folders.update(names)
        if entry.is_folder:
            folders.add(str(path))
            (destination / path).mkdir(parents=True, exist_ok=True)
            continue
        files.add(str(path))
        if entry.size > left:
            raise TooManyBytes(allowed)
        if path.name.lower().endswith(ARCHIVE_SUFFIXES):
            raise _nested(entry)
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with entry.open() as source, target.open("xb") as sink:
            start = source.read(CHUNK)
            if start.startswith(ARCHIVE_STARTS) or start[TAR_MAGIC] == b"ustar":
                raise _nested(entry)
            piece = start
            while piece:
                left -= len(piece)
                if left < 0:
                    raise TooManyBytes(allowed)
                sink.write(piece)
                piece = source.read(CHUNK)


def _nested(entry: _Entry) -> Invalid:
    return Invalid(f"{_shown(entry.name)} is an archive in the archive; unpack it first")


def is_archive(name: str) -> bool:
    """Whether a file of this name should be something that `unpack` reads."""
    return name.lower().endswith(READABLE_SUFFIXES)


def class_root(unpacked: Path) -> Path:
    """The folder of class folders: archives often hold one folder around them."""
    root = unpacked
    while True:
        entries = list(root.iterdir())
        if len(entries) != 1 or not entries[0].is_dir() or not any(inner.is_dir() for inner in entries[0].iterdir()):
            return root
        root = entries[0]


def safe_path(name: str) -> PurePosixPath | None:
    """Where an entry goes, below the folder of the upload; None: it is an operating system's litter, left out.

    Raises:
        Invalid: the name would lead elsewhere, or cannot be a file's.
    """
    if "\\" in name or name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise Invalid(f"{_shown(name)} is an absolute name or one with backslashes; names must be relative, with /")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise Invalid(f"{_shown(name)} leads out of the archive")
    if not parts:
        return None
    if not name.isprintable():
        raise Invalid(f"{_shown(name)} holds characters that are not printable, or is not UTF-8")
    if len(name) > LONGEST_NAME or len(parts) > DEEPEST_FOLDER or any(len(p.encode()) > LONGEST_PART for p in parts):
        raise Invalid(f"{_shown(name)} is too long or too deep a name")
    if parts[0] in IGNORED_FOLDERS or parts[-1] in IGNORED_NAMES or parts[-1].startswith("._"):
        return None
    # Two spellings of one accented letter would be two files here and one elsewhere.
    return PurePosixPath(*(unicodedata.normalize("NFC", part) for part in parts))


def _shown(name: str) -> str:
    return ascii(name[:200])
