"""scikit-learn's handwritten digits (1,797 images of 8 x 8 grey levels), drawn at 64 pixels."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64


@cache
def _load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    levels = np.rint(loaded.images * (255 / 16)).astype(np.uint8)
    return levels, loaded.target.astype(np.int64)


def labels() -> NDArray[np.int64]:
    """(1797,) the digits."""
    return _load()[1]


def draw(position: int) -> Image.Image:
    """One digit as 64 x 64 RGB. Pillow resizes in integers, so the pixels are the same on every platform."""
    grey = Image.fromarray(_load()[0][position])
    return grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")
