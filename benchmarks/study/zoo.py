"""A folder of weights with a ``zoo.json``, and each model's frozen evidence."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.contracts.models import InputConfiguration
from workers.device.forward import forward, probabilities

BATCH = 32


def entries(folder: Path) -> list[dict[str, Any]]:
    """``zoo.json``: a list with name, file, builder, timm_architecture, timm_kwargs, num_classes, input_size, mean,
    std, crop_pct, interpolation, parameters and source_dataset.
    """
    return list(json.loads((folder / "zoo.json").read_text()))


def build(entry: Mapping[str, Any], folder: Path) -> nn.Module:
    """The model with its weights, in 32 bits."""
    import timm
    from safetensors.torch import load_file
    from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels

    arguments = dict(entry["timm_kwargs"])
    if entry["builder"] == "create_model":
        model = timm.create_model(entry["timm_architecture"], num_classes=entry["num_classes"], **arguments)
    else:  # MobileNetV1 of fractional width has no registered name
        multiplier, architecture = arguments.pop("channel_multiplier"), arguments.pop("arch_def")
        arguments["act_layer"] = {"relu6": nn.ReLU6}[arguments["act_layer"]]
        model = EfficientNet(
            block_args=decode_arch_def(architecture),
            round_chs_fn=partial(round_channels, multiplier=multiplier),
            num_classes=entry["num_classes"],
            **arguments,
        )
    model.load_state_dict(load_file(str(folder / entry["file"])), strict=True)
    module: nn.Module = model.float().eval().to(memory_format=torch.channels_last)
    return module


def input_of(entry: Mapping[str, Any], size: int | None) -> InputConfiguration:
    """The model's own input, or every image squashed to ``size``."""
    own = InputConfiguration(
        input_size=entry["input_size"],
        mean=entry["mean"],
        std=entry["std"],
        crop_pct=entry["crop_pct"],
        crop_mode="center",
        interpolation=entry["interpolation"],
    )
    squashed = {"input_size": (3, size, size), "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"}
    return own if size is None else own.model_copy(update=squashed)


def frozen(
    model: nn.Module, pixels: NDArray[np.uint8], config: InputConfiguration
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, D) features and (N, S) source probabilities."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    features, shares = [], []
    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(pixels[start : start + BATCH]).permute(0, 3, 1, 2).float().div_(255)
            images = batch.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)
            pooled, logits = forward(model, images)
            features.append(pooled.float().numpy())
            if logits is not None:
                shares.append(probabilities(logits).numpy())
    return np.concatenate(features), np.concatenate(shares)
