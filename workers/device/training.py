"""Fine-tune one model on part of a sample, predict another part, store what was predicted and perhaps the weights."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

from app.contracts.fine_tuning import FineTuningCommand, FineTuningResult
from app.contracts.models import InputConfiguration
from app.contracts.progress import Progress, TellProgress
from app.contracts.tasks import TaskName
from app.settings import Settings
from workers.device.exporting import export
from workers.device.extraction import select_device
from workers.device.fine_tuning import FineTuner, Images, Recipe, default_body_rate
from workers.device.loading import load_model
from workers.errors import ModelRefused, StorageFull
from workers.images.cache import ImageCache
from workers.images.index import IndexStore
from workers.store.trials import Predictions, TrialStore

# How each task's networks are trained, and what they predict.
TUNERS: Mapping[TaskName, type[FineTuner]] = MappingProxyType({"classification": FineTuner})
SLOWED = "slowed: the usual learning rate left it worse than its linear probe, so it was trained again at a lower one"


def fine_tune(command: FineTuningCommand, settings: Settings, progress: TellProgress) -> FineTuningResult:
    """Fill the store with the predictions of one run, and keep its weights if asked to; at once if they are there.

    Raises:
        ModelRefused: the weights are not those that were inspected.
        FineTuningFailed: see `FineTuner.run`.
        StorageFull: there is no room for the weights.
    """
    store = TrialStore.of(settings)
    weights = None if command.weights is None else settings.fine_tunings_folder / command.weights
    with store.lock(command.key):
        if command.key in store.has_many([command.key]) and (weights is None or weights.exists()):
            return FineTuningResult.read(store.read(command.key).manifest["result"])
        progress(Progress(stage="load", done=0, total=1))
        loaded = load_model(command.spec, settings)
        if loaded.card.weights_digest != command.card.weights_digest:
            raise ModelRefused("the weights are not those that were inspected: register the model again")
        device = select_device(settings)
        body = loaded.module.to(device).to(memory_format=torch.channels_last)
        config, warnings = fitting_input(body, command.input, command.card.input, device)
        index = IndexStore(settings).open(command.dataset_id)
        sample = np.array(command.sample_indices, dtype=np.int64)
        with ImageCache(settings).open(index, sample, config, progress=progress) as cached:
            images = images_of(cached.pixels, index.labels[sample], config)
            held_out = np.array(command.held_out, dtype=np.int64)
            tuner = TUNERS[command.task](body, images, device)
            outcome = tuner.run(
                np.array(command.train, dtype=np.int64),
                held_out,
                recipe_of(command, body),
                seed=command.recipe.seed,
                progress=progress,
            )
        result = FineTuningResult(
            nll=outcome.nll,
            accuracy=outcome.accuracy,
            probe_accuracy=outcome.probe_accuracy,
            images=int(held_out.size),
            side=config.input_size[-1],
            body_rate=outcome.body_rate,
            part=outcome.part,
            seconds=round(outcome.seconds, 3),
            device=str(device),
            warnings=(*warnings, SLOWED) if outcome.slowed else warnings,
        )
        if weights is not None and tuner.network is not None:
            present = np.unique(index.labels[sample])
            _keep(weights, tuner.network, command, config, [index.class_names[code] for code in present])
        manifest = {"result": result.plain(), "command": command.plain(), "versions": versions()}
        store.write(command.key, Predictions(held_out, outcome.probabilities, images.labels[held_out], manifest))
    return result


def _keep(file: Path, network: Any, command: FineTuningCommand, config: InputConfiguration, classes: list[str]) -> None:
    """Write the weights whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}")
        export(network, unfinished, card=command.card, config=config, classes=classes)
        unfinished.replace(file)
    except OSError as error:
        raise StorageFull(f"the fine-tuned weights could not be written: {error.strerror or error}") from error


def recipe_of(command: FineTuningCommand, body: nn.Module) -> Recipe:
    """The recipe as the fine-tuner takes it."""
    asked = command.recipe
    rate = None if asked.rate_multiple is None else asked.rate_multiple * default_body_rate(body)
    return Recipe(epochs=asked.epochs, body_rate=rate, shift=asked.shift, flip=asked.flip)


def images_of(pixels: Any, labels: Any, config: InputConfiguration) -> Images:
    """Decoded images, and how this model normalises them. Classes that the sample lacks have no output."""
    present, codes = np.unique(labels, return_inverse=True)
    return Images(pixels, codes.astype(np.int64), len(present), config.mean, config.std)


def fitting_input(
    body: nn.Module, asked: InputConfiguration, own: InputConfiguration, device: torch.device
) -> tuple[InputConfiguration, tuple[str, ...]]:
    """The asked input if the network runs on it, after its positions were resampled if it can do that; else its own."""
    if runs_on(body, asked, device):
        return asked, ()
    resize = getattr(body, "set_input_size", None)
    if resize is not None:
        try:
            resize(img_size=tuple(asked.input_size[1:]))
        except (AssertionError, RuntimeError, TypeError, ValueError):
            pass
        else:
            if runs_on(body, asked, device):
                return asked, ()
            resize(img_size=tuple(own.input_size[1:]))
    side = "x".join(map(str, asked.input_size[1:]))
    return own, (f"the network does not run on images of {side}: it was tried on its own input, which favours it",)


def runs_on(body: nn.Module, config: InputConfiguration, device: torch.device) -> bool:
    """Whether a blank image of that size goes through."""
    try:
        with torch.inference_mode():
            network: Any = body
            network.forward_features(torch.zeros(1, *config.input_size, device=device))
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True


def versions() -> dict[str, str]:
    """Of what computes."""
    return {"torch": torch.__version__, "timm": timm.__version__, "python": platform.python_version()}
