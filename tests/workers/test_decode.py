"""Files that are not what they seem: each is decoded soundly or refused with its reason."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.workers.conftest import picture
from workers.images.decode import UnreadableImage, decode

LIMIT = 1_000_000


def encode(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> np.ndarray:
    image = decode(io.BytesIO(content), pixel_limit=LIMIT)
    assert image.mode == "RGB"
    return np.asarray(image)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("depth", ["I;16", "I;16B"])
def test_sixteen_bits_are_scaled_not_clipped(depth: str) -> None:
    levels = np.array([[0, 257, 32_896, 65_535]], dtype=np.uint16)
    image = (
        Image.fromarray(levels) if depth == "I;16" else Image.frombytes("I;16B", (4, 1), levels.byteswap().tobytes())
    )
    content = encode(image, format="PNG" if depth == "I;16" else "TIFF")
    assert pixels(content)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_becomes_rgb() -> None:
    content = encode(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), format="JPEG", quality=95)
    red, green, blue = pixels(content)[0, 0]
    assert red < 10
    assert green > 245
    assert blue > 245


def test_palette_becomes_its_colours() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert pixels(encode(image, format="PNG"))[0, 0].tolist() == [10, 200, 30]


def test_alpha_is_dropped_as_timm_does() -> None:
    assert pixels(encode(Image.new("RGBA", (2, 2), (9, 8, 7, 0)), format="PNG"))[0, 0].tolist() == [9, 8, 7]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    content = encode(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert pixels(content)[0, 0].tolist() == [250, 0, 0]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, np.asarray),
        (3, lambda image: np.rot90(np.asarray(image), 2)),
        (6, lambda image: np.rot90(np.asarray(image), -1)),
    ],
)
def test_exif_orientation_is_applied(orientation: int, upright: Callable[[Image.Image], np.ndarray]) -> None:
    image = picture(1, (6, 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encode(image, format="PNG", exif=exif)), upright(image))


def test_grey_becomes_three_equal_channels() -> None:
    assert pixels(encode(Image.new("L", (2, 2), 77), format="PNG"))[0, 0].tolist() == [77, 77, 77]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is a text file\n" * 50, "not an image of a known format"),
        (b"", "not an image of a known format"),
        (png_header(20_000, 20_000), "20000 x 20000 pixels, more than the limit"),
        (encode(picture(2, (300, 300)), format="JPEG")[:-400], "truncated"),
        (encode(picture(3, (80, 80)), format="PNG")[:-200], "broken image"),
        (encode(Image.new("F", (2, 2)), format="TIFF"), "32-bit grey values"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image of a known format"),
    ],
    ids=["text", "empty", "bomb", "truncated-jpeg", "truncated-png", "float", "postscript"],
)
def test_what_cannot_be_used_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        decode(io.BytesIO(content), pixel_limit=LIMIT)


def test_the_reason_names_no_python_object() -> None:
    with pytest.raises(UnreadableImage) as caught:
        decode(io.BytesIO(encode(picture(4), format="PNG")[:40]), pixel_limit=LIMIT)
    assert "0x" not in str(caught.value)
