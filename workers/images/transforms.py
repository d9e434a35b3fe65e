"""timm's evaluation transform, up to the 8-bit pixels that the model's normalisation starts from."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.contracts.models import InputConfiguration


def pixel_transform(config: InputConfiguration) -> dict[str, Any]:
    """The part of an input configuration that decides pixels; equal parts share one decoded array.

    Mean and standard deviation are applied on the device. Only the crop mode ``border`` draws with the mean.
    """
    part = {
        "size": list(config.input_size[-2:]),
        "crop_pct": config.crop_pct,
        "crop_mode": config.crop_mode,
        "interpolation": config.interpolation,
    }
    if config.crop_mode == "border":
        part["mean"] = list(config.mean)
    return part


def transform_key(config: InputConfiguration) -> str:
    """SHA-256 of ``pixel_transform``."""
    return hashlib.sha256(json.dumps(pixel_transform(config), sort_keys=True).encode()).hexdigest()


def build(config: InputConfiguration) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """A function from an RGB image to (H, W, 3) uint8, by timm's own code."""
    from timm.data.transforms_factory import create_transform

    part = pixel_transform(config)
    transform = create_transform(
        input_size=(3, *part["size"]),
        is_training=False,
        use_prefetcher=True,
        interpolation=part["interpolation"],
        crop_pct=part["crop_pct"],
        crop_mode=part["crop_mode"],
        mean=config.mean,
        std=config.std,
    )
    return lambda image: transform(image).permute(1, 2, 0).numpy()
