"""The cached pixels against timm's own evaluation pipeline, on real shapes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import create_transform

from app.contracts.models import InputConfiguration
from tests.workers.conftest import picture
from workers.images import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def configuration(**changes: Any) -> InputConfiguration:
    plain: dict[str, Any] = {"input_size": (3, 64, 64), "mean": MEAN, "std": STD}
    return InputConfiguration(
        **plain | {"crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"} | changes
    )


@pytest.fixture(params=["photograph.jpg", "wide.png", "tall.jpg", "tiny.png"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Image.Image:
    sizes = {"wide.png": (301, 97), "tall.jpg": (80, 203), "tiny.png": (28, 28)}
    if request.param == "photograph.jpg":
        drawn = Image.fromarray(load_sample_image("flower.jpg"))
    else:
        drawn = picture(5, sizes[request.param])
    drawn.save(tmp_path / request.param)
    return Image.open(tmp_path / request.param).convert("RGB")


@pytest.mark.parametrize(
    "config",
    [
        configuration(),
        configuration(interpolation="bilinear", crop_pct=0.9),
        configuration(crop_pct=1.0, crop_mode="squash"),
        configuration(crop_mode="border"),
        configuration(input_size=[3, 48, 96]),
    ],
    ids=["center", "bilinear", "squash", "border", "oblong"],
)
def test_within_one_grey_level_of_timm(config: InputConfiguration, image: Image.Image) -> None:
    timms = create_transform(**config.model_dump(), is_training=False)
    normalised = timms(image)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    expected = ((normalised * std + mean) * 255).permute(1, 2, 0).numpy()
    ours = transforms.build(config)(image)
    assert ours.dtype == np.uint8
    assert np.abs(ours - expected).max() <= 1


def test_normalisation_alone_does_not_split_the_cache() -> None:
    other = configuration(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert transforms.transform_key(other) == transforms.transform_key(configuration())


@pytest.mark.parametrize(
    "changes", [{"crop_pct": 0.9}, {"crop_mode": "squash"}, {"interpolation": "bilinear"}, {"input_size": [3, 72, 72]}]
)
def test_whatever_changes_pixels_changes_the_key(changes: dict[str, Any]) -> None:
    assert transforms.transform_key(configuration(**changes)) != transforms.transform_key(configuration())


def test_the_border_is_drawn_with_the_mean() -> None:
    first, second = (configuration(crop_mode="border", mean=mean) for mean in (MEAN, (0.5, 0.5, 0.5)))
    assert transforms.transform_key(first) != transforms.transform_key(second)
