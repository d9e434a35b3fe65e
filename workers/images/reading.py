"""Reading the images of strangers: in processes of their own, with limits of time and memory for each image."""

import hashlib
import io
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image, ImageOps
from pydantic import TypeAdapter

from app.contracts.datasets import FolderSpec, ManifestSpec
from app.contracts.progress import TellProgress
from app.processes.errors import Problem, ProcessDied, TimeLimitExceeded
from app.processes.pool import ProcessPool
from app.processes.role import YIELDING, Commands, Role
from app.processes.threads import thread_count
from app.settings import Settings
from workers.images.candidates import open_image
from workers.images.decode import UnreadableImage, decode

DRAFT_SIZE = (64, 64)
THUMBNAIL = (144, 144)
SPEC: TypeAdapter[FolderSpec | ManifestSpec] = TypeAdapter(FolderSpec | ManifestSpec)
READER = Role(
    name="reader of images",
    module="workers.images.reading",
    time_setting="image_time_limit_seconds",
    processor_setting="image_processor_seconds",
    memory_setting="image_memory_megabytes",
    niceness=YIELDING,
    threads=1,
)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that could be decoded: SHA-256 of its content, bytes, and modification time in nanoseconds."""

    content_digest: str
    size: int
    mtime_ns: int


def read_image(spec: FolderSpec | ManifestSpec, path: str, settings: Settings) -> ImageFile:
    """Hash and decode one file of a data set, in this process.

    Raises:
        UnreadableImage: with the reason.
    """
    try:
        with open_image(spec, path, settings) as file:
            status = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            decode(file, pixel_limit=settings.image_pixel_limit, draft_size=DRAFT_SIZE)
    except OSError as error:
        raise UnreadableImage(error.strerror or type(error).__name__) from error
    return ImageFile(digest, status.st_size, status.st_mtime_ns)


class _Unreadable(Problem):
    code = "unreadable-image"


def commands(settings: Settings) -> Commands:
    """Of the reader's process: ``read`` an image of a data set, or make a ``thumbnail`` of it."""

    def read(payload: Mapping[str, Any], progress: TellProgress) -> dict[str, Any]:
        try:
            return asdict(read_image(SPEC.validate_python(payload["spec"]), payload["path"], settings))
        except UnreadableImage as error:
            reason = str(error)
        except MemoryError:
            reason = "needs more memory than an image may have (FORERANK_IMAGE_MEMORY_MEGABYTES)"
        # Only here, where no exception is left to hold on to what the image took.
        raise _Unreadable(reason)

    def thumbnail(payload: Mapping[str, Any], progress: TellProgress) -> dict[str, Any]:
        try:
            with open_image(SPEC.validate_python(payload["spec"]), payload["path"], settings) as file:
                image = decode(file, pixel_limit=settings.image_pixel_limit, draft_size=THUMBNAIL)
        except (OSError, UnreadableImage) as error:
            raise _Unreadable(str(error)) from error
        return {"jpeg": b64encode(small_jpeg(image)).decode()}

    return {"read": read, "thumbnail": thumbnail}


def small_jpeg(image: Image.Image) -> bytes:
    """The middle of an image as a JPEG of our own making, with nothing of the file that it came from."""
    content = io.BytesIO()
    ImageOps.fit(image, THUMBNAIL).save(content, "JPEG", quality=80)
    return content.getvalue()


class ImageReaders:
    """The readers of one worker, shared by all of its inspections."""

    def __init__(self, settings: Settings) -> None:
        # One image may hold a reader for as long as the limit says; another goes on meanwhile.
        self.count = max(2, thread_count(settings))
        self._pool = ProcessPool(settings, READER, self.count)

    def read(self, spec: FolderSpec | ManifestSpec, path: str) -> ImageFile:
        """As `read_image`, in a reader.

        Raises:
            UnreadableImage: with the reason; also if the image takes more time or memory than it may.
            Stopping: `close` was called.
        """
        payload = {"spec": spec.plain(), "path": path}
        try:
            try:
                return ImageFile(**self._pool.call("read", payload))
            except ProcessDied:
                # It may have been ended for the memory of others.
                return ImageFile(**self._pool.call("read", payload))
        except TimeLimitExceeded as problem:
            raise UnreadableImage(f"takes too long to read: {problem.detail}") from problem
        except ProcessDied as death:
            raise UnreadableImage(f"ends the process that reads it: {death.detail}") from death
        except Problem as problem:
            if problem.code in (_Unreadable.code, "internal-error"):
                raise UnreadableImage(problem.detail) from problem
            raise

    def thumbnail(self, spec: FolderSpec | ManifestSpec, path: str) -> bytes:
        """A small JPEG of an image, made in a reader.

        Raises:
            Problem: it cannot be made.
            Stopping: `close` was called.
        """
        answer = self._pool.call("thumbnail", {"spec": spec.plain(), "path": path})
        return b64decode(answer["jpeg"])

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def __enter__(self) -> "ImageReaders":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
