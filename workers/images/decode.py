"""One file to one RGB image, whatever the file claims to be."""

import re
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

# The limit is checked here on the header, with a reason; Pillow's own would only warn below twice its number.
Image.MAX_IMAGE_PIXELS = None


class UnreadableImage(ValueError):
    """The file is not an image that can be used. The message is the reason, without the file's name."""


def decode(file: BinaryIO, *, pixel_limit: int, draft_size: tuple[int, int] | None = None) -> Image.Image:
    """The first frame as 8-bit RGB, turned upright.

    Sixteen bits are scaled, not clipped; CMYK, palettes and grey are converted to RGB, and alpha is dropped, as
    timm's readers do. Beyond timm, the EXIF orientation is applied.

    Args:
        file: seekable, at its start.
        pixel_limit: width times height, checked on the header before anything is decoded.
        draft_size: for a JPEG, a size (width, height) that suffices; the whole file is read either way.

    Raises:
        UnreadableImage: with the reason.
        MemoryError: the process may not have as much as the image needs.
    """
    try:
        image: Image.Image = Image.open(file, formats=FORMATS)
        width, height = image.size
        if width * height > pixel_limit:
            raise UnreadableImage(
                f"{width} x {height} pixels, more than the limit of {pixel_limit} (FORERANK_IMAGE_PIXEL_LIMIT)"
            )
        if draft_size is not None and image.format == "JPEG":
            image.draft(None, draft_size)
        image.load()
        return _upright(_rgb(image))
    except (UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(f"not an image of a known format ({', '.join(FORMATS)})") from None
    except Exception as error:  # decoders raise all kinds of errors on hostile bytes
        reason = re.sub(r"<[^>]*>", "", str(error)).strip() or type(error).__name__
        raise UnreadableImage(f"broken image: {reason}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        scaled = Image.fromarray(((values + 128) // 257).astype(np.uint8))
        scaled.info = image.info
        scaled.getexif().update(image.getexif())
        return scaled.convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadableImage(f"32-bit grey values (mode {image.mode}) have no agreed range: convert to 8 or 16 bits")
    return image if image.mode == "RGB" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    return image
