"""Images made to exhaust whoever opens them: each is named with a reason, and the next one is read as ever."""

import io
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from app.contracts.datasets import FolderSpec
from app.settings import Settings
from tests.workers.conftest import picture
from workers.images.reading import ImageReaders
from workers.inspection.images import inspect_dataset

MEMORY_OR_TIME = "needs more memory .*FORERANK_IMAGE_MEMORY_MEGABYTES|takes too long .*FORERANK_IMAGE_PROCESSOR_SECONDS"


def jpeg(side: int = 64, **options: object) -> bytes:
    sink = io.BytesIO()
    picture(1, (side, side)).save(sink, "JPEG", **options)
    return sink.getvalue()


def with_markers(count: int) -> bytes:
    """Each empty APP5 segment is an object to Pillow; zipped, a million of them take four kilobytes."""
    image = jpeg()
    return image[:2] + b"\xff\xe5\x00\x02" * count + image[2:]


def with_exif_blocks(count: int) -> bytes:
    """Exif in pieces is joined piece by piece, each time anew."""
    piece = b"Exif\0\0" + bytes(65_000)
    block = b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece
    image = jpeg()
    return image[:2] + block * count + image[2:]


def with_private_chunks(count: int, size: int) -> bytes:
    """Chunks of no known kind, which Pillow keeps; all are of one content."""
    sink = io.BytesIO()
    picture(1).save(sink, "PNG")
    image = sink.getvalue()
    data = b"prVt" + bytes(size)
    chunk = struct.pack(">I", size) + data + struct.pack(">I", zlib.crc32(data))
    return image[:33] + chunk * count + image[33:]


def with_scans(count: int, side: int) -> bytes:
    """A progressive JPEG that refines the same coefficients over and over: each scan passes over all of the image."""
    sink = io.BytesIO()
    Image.new("L", (side, side), 128).save(sink, "JPEG", progressive=True)
    image = sink.getvalue()
    starts = [position for position in range(len(image) - 1) if image[position : position + 2] == b"\xff\xda"]
    last = image[starts[-1] : -2]
    return image[: starts[-1]] + last * count + image[-2:]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"image_processor_seconds": 2, "image_memory_megabytes": 100, "unreadable_share_limit": 0.9}
    )


@pytest.fixture
def readers(settings: Settings) -> Iterator[ImageReaders]:
    with ImageReaders(settings) as readers:
        yield readers


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        (
            "markers.jpg",
            lambda: with_markers(3_000_000),
            MEMORY_OR_TIME,
        ),
        (
            "chunks.png",
            lambda: with_private_chunks(150, 1_000_000),
            "needs more memory .*FORERANK_IMAGE_MEMORY_MEGABYTES",
        ),
        ("exif.jpg", lambda: with_exif_blocks(2000), MEMORY_OR_TIME),
        ("scans.jpg", lambda: with_scans(5_000, 2000), "takes too long to read: .*FORERANK_IMAGE_PROCESSOR_SECONDS"),
    ],
    ids=["a million markers", "private chunks", "exif in pieces", "thousands of scans"],
)
def test_a_hostile_image_is_named_and_the_others_are_read(
    name: str, make: Callable[[], bytes], reason: str, image_folder: Path, settings: Settings, readers: ImageReaders
) -> None:
    (image_folder / "cat" / name).write_bytes(make())
    started = time.monotonic()
    index = inspect_dataset(FolderSpec(path=str(image_folder)), settings=settings, readers=readers)
    assert time.monotonic() - started < 120
    assert [item["path"] for item in index.unreadable] == [f"cat/{name}"]
    assert re.search(reason, index.unreadable[0]["reason"])
    assert len(index) == 12
