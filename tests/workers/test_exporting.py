"""Fine-tuned weights as a file: timm alone builds the network again, and it predicts the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from app.contracts.models import InputConfiguration, ModelCard
from workers.device.exporting import export
from workers.device.fine_tuning import FineTuner, Images, Recipe

CLASSES = ["cat", "dog", "owl"]
MEAN, STD = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
CONFIG = InputConfiguration(
    input_size=(3, 64, 64), mean=MEAN, std=STD, crop_pct=1.0, crop_mode="squash", interpolation="bilinear"
)


def _card(architecture: str) -> ModelCard:
    return ModelCard(
        weights_digest="0" * 64,
        architecture=architecture,
        arguments={},
        parameters=1,
        feature_dimension=1,
        source_classes=5,
        stages=(),
        input=CONFIG,
        license=None,
    )


def _fine_tuned(architecture: str) -> tuple[Any, torch.Tensor]:
    """A network after a few steps, and some images as it wants them."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    labels = (np.arange(24) % len(CLASSES)).astype(np.int64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = timm.create_model(architecture, num_classes=5)
    tuner = FineTuner(body, Images(pixels, labels, len(CLASSES), MEAN, STD), torch.device("cpu"))
    tuner.run(np.arange(16), np.arange(16, 24), Recipe(epochs=1))
    images = (torch.from_numpy(pixels[:4]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.2
    return tuner.network, images


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "test_vit"])
def test_timm_loads_the_file_and_predicts_the_same(architecture: str, tmp_path: Path) -> None:
    network, images = _fine_tuned(architecture)
    file = tmp_path / "weights.safetensors"
    export(network, file, card=_card(architecture), config=CONFIG, classes=CLASSES)
    again = timm.create_model(architecture, num_classes=len(CLASSES)).eval()
    again.load_state_dict(load_file(file), strict=True)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), network(images), rtol=1e-4, atol=1e-4)
    with safe_open(file, framework="pt") as content:
        metadata = content.metadata()
    assert metadata["layout"] == "timm"
    assert json.loads(metadata["classes"]) == CLASSES
    assert json.loads(metadata["input"])["input_size"] == [3, 64, 64]


def test_a_classifier_that_is_more_than_a_matrix_leaves_the_head_apart(tmp_path: Path) -> None:
    network, images = _fine_tuned("test_resnet")
    network.body.fc = nn.Sequential(nn.Linear(network.head.in_features, 5), nn.ReLU())
    file = tmp_path / "weights.safetensors"
    export(network, file, card=_card("test_resnet"), config=CONFIG, classes=CLASSES)
    with torch.inference_mode():
        before = network(images)
        for parameter in network.parameters():
            parameter.zero_()
        network.load_state_dict(load_file(file))
        torch.testing.assert_close(network(images), before)
    with safe_open(file, framework="pt") as content:
        assert content.metadata()["layout"] == "body and head"
