"""Fine-tune one model on decoded images: the short runs of a trial, and the full ones, by the same code.

A linear probe of the frozen features becomes the head, then all weights are trained by AdamW under one schedule. The
network stays in evaluation mode: normalisation keeps the statistics of the source, and nothing is dropped at random.
So no image influences another, and a batch that does not fit the memory is computed in parts without changing it.

The probe first: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.contracts.progress import Progress, TellProgress
from workers.device.forward import pool
from workers.device.memory import is_out_of_memory
from workers.device.probe import probe_layer
from workers.errors import FineTuningFailed, Stopped

FROZEN_BATCH = 64
# Networks without batch normalisation, transformers for the most part, take smaller steps.
BODY_RATE, BODY_RATE_WITHOUT_BATCH_NORM = 5e-4, 1e-4
STEPS_AN_EPOCH, BATCH_SIZES = 25, (8, 32)
# Of the usual rate, for a network that the usual rate made worse than the probe it started from.
SLOWER = 0.3
# Steps before a speed is believed: the first ones also choose kernels and allocate.
STEPS_BEFORE_ESTIMATE = 3


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is fine-tuned.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step; None takes as many as leave ``STEPS_AN_EPOCH``, within ``BATCH_SIZES``. Few images in
            large batches make so few steps that a network is still worse than its probe when the rates have fallen.
        body_rate: peak learning rate of the pre-trained weights; None chooses by the kind of network, and trains again
            at ``SLOWER`` times that rate if the loss on the training images ended above the probe's.
        head_rate: of the classifier.
        warm_up_epochs: the rates rise linearly for this long, then fall to zero on a cosine.
        weight_decay: of matrices and filters; biases and normalisation have none.
        shift: each image moves by up to this share of its side in every epoch, its edge being repeated.
        flip: whether images are mirrored at random.
    """

    epochs: int = 3
    batch_size: int | None = None
    body_rate: float | None = None
    head_rate: float = 2e-3
    warm_up_epochs: float = 0.5
    weight_decay: float = 0.02
    shift: float = 0.0
    flip: bool = False


@dataclass(frozen=True, slots=True)
class Images:
    """Decoded images as one model wants them.

    Attributes:
        pixels: (N, H, W, 3) uint8.
        labels: (N,) codes from 0 to ``classes`` - 1.
        classes: C.
        mean, std: of the model's normalisation, a value a channel, for pixels from 0 to 1.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run left.

    Attributes:
        probabilities: (n, C) float32 of the held-out images, in the order in which they were given.
        nll: mean negative logarithm of the probability of the true class.
        accuracy: share of held-out images whose most likely class is the true one.
        probe_accuracy: the same before the first step.
        body_rate: that was used.
        slowed: whether the usual rate failed, so that a lower one was used.
        seconds: of the whole run.
        part: images computed at once; less than the batch if memory was short.
    """

    probabilities: NDArray[np.float32]
    nll: float
    accuracy: float
    probe_accuracy: float
    body_rate: float
    slowed: bool
    seconds: float
    part: int


class FineTuner:
    """One model on one set of images, fine-tuned any number of times, each time from the source's weights.

    Args:
        body: a timm model with the source's weights, on the device. It is changed by every run.
        images: see `Images`.
        device: where the body is.
    """

    def __init__(self, body: nn.Module, images: Images, device: torch.device) -> None:
        self._body = body.eval().requires_grad_(True)
        self._images = images
        self._device = device
        self._source = {name: value.detach().clone() for name, value in body.state_dict().items()}
        self._features: NDArray[np.float32] | None = None
        self._scale = tuple(
            torch.tensor(values, device=device).mul(255).view(1, 3, 1, 1) for values in (images.mean, images.std)
        )
        self.network: nn.Module | None = None

    @property
    def usual_rate(self) -> float:
        """See `default_body_rate`."""
        return default_body_rate(self._body)

    def run(
        self,
        train: NDArray[np.int64],
        held_out: NDArray[np.int64],
        recipe: Recipe,
        *,
        seed: int = 0,
        progress: TellProgress = lambda event: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Train on some rows and predict others. The same arguments give the same numbers on the same device.

        Args:
            train, held_out: rows of the images.
            recipe: see `Recipe`.
            seed: of the order of the images and their augmentation.
            progress: told of the stages ``frozen features`` and ``fine-tuning``, and of the seconds left once known.
            should_stop: asked before every step.

        Raises:
            Stopped: ``should_stop`` said so.
            FineTuningFailed: one image does not fit the memory, one class only to train on, or the loss is not finite.
        """
        started = time.perf_counter()
        labels = self._images.labels
        if np.unique(labels[train]).size < 2:
            raise FineTuningFailed("the images to train on are all of one class: take a larger sample or fewer folds")
        self._body.load_state_dict(self._source)
        features = self._frozen_features(progress, should_stop)
        head = probe_layer(features[train], labels[train], self._images.classes).to(self._device)
        frozen = torch.from_numpy(features[held_out]).to(self._device)
        with torch.inference_mode():
            probe = np.asarray(head(frozen).argmax(dim=1).cpu())
        start = copy.deepcopy(head)
        self.network = _Network(self._body, head)
        body_rate = recipe.body_rate or self.usual_rate
        part, loss = self._train(self.network, train, recipe, body_rate, seed, progress, should_stop)
        slowed = recipe.body_rate is None and loss > self._loss_of(start, features[train], labels[train])
        if slowed:
            self._body.load_state_dict(self._source)
            self.network, body_rate = _Network(self._body, start), SLOWER * body_rate
            part, _ = self._train(self.network, train, recipe, body_rate, seed, progress, should_stop)
        probabilities = self._predict(self.network, held_out, part)
        truth = labels[held_out]
        return Outcome(
            probabilities=probabilities,
            nll=negative_log_likelihood(probabilities, truth),
            accuracy=float(np.mean(probabilities.argmax(axis=1) == truth)),
            probe_accuracy=float(np.mean(probe == truth)),
            body_rate=body_rate,
            slowed=slowed,
            seconds=time.perf_counter() - started,
            part=part,
        )

    def _frozen_features(self, progress: TellProgress, should_stop: Callable[[], bool]) -> NDArray[np.float32]:
        """(N, D) features of all images under the source's weights; kept, since every run starts from them."""
        if self._features is None:
            count = len(self._images.labels)
            blocks: list[NDArray[np.float32]] = []
            done, step = 0, FROZEN_BATCH
            while done < count:
                if should_stop():
                    raise Stopped("the fine-tuning was stopped")
                rows = np.arange(done, min(done + step, count))
                try:
                    with torch.inference_mode():
                        blocks.append(_features(self._body, self._batch(rows)).float().cpu().numpy())
                except (MemoryError, RuntimeError) as error:
                    step = _halved(step, error, self._device)
                    continue
                done += len(rows)
                progress(Progress(stage="frozen features", done=done, total=count))
            features = np.concatenate(blocks)
            if not np.isfinite(features).all():
                raise FineTuningFailed("the model's features are not finite on these images")
            self._features = features
        return self._features

    def _loss_of(self, head: nn.Linear, features: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        with torch.inference_mode():
            logits = head(torch.from_numpy(features).to(self._device))
            return float(nn.functional.cross_entropy(logits, torch.from_numpy(labels).to(self._device)))

    def _train(
        self,
        network: nn.Module,
        train: NDArray[np.int64],
        recipe: Recipe,
        body_rate: float,
        seed: int,
        progress: TellProgress,
        should_stop: Callable[[], bool],
    ) -> tuple[int, float]:
        """How many images were computed at once, and the mean loss over the second half of the last epoch."""
        batch_size = min(recipe.batch_size or default_batch_size(train.size), train.size)
        steps_an_epoch = math.ceil(train.size / batch_size)
        total = recipe.epochs * steps_an_epoch
        optimizer = torch.optim.AdamW([dict(group) for group in _groups(network, recipe, body_rate)], fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_factor(step, total, recipe.warm_up_epochs * steps_an_epoch)
        )
        generator = np.random.Generator(np.random.PCG64(seed))
        part, step, measured = batch_size, 0, 0.0
        losses: list[float] = []
        for _ in range(recipe.epochs):
            order = train[generator.permutation(train.size)]
            for rows in np.array_split(order, steps_an_epoch):
                if should_stop():
                    raise Stopped("the fine-tuning was stopped")
                part, loss = self._step(network, optimizer, rows, recipe, generator, part)
                losses.append(loss)
                schedule.step()
                step += 1
                seconds_left = None
                if step == STEPS_BEFORE_ESTIMATE:
                    measured = time.perf_counter()
                elif step > STEPS_BEFORE_ESTIMATE:
                    mean = (time.perf_counter() - measured) / (step - STEPS_BEFORE_ESTIMATE)
                    seconds_left = round(mean * (total - step), 1)
                progress(Progress(stage="fine-tuning", done=step, total=total, seconds_left=seconds_left))
        return part, float(np.mean(losses[-math.ceil(steps_an_epoch / 2) :]))

    def _step(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        rows: NDArray[np.int64],
        recipe: Recipe,
        generator: np.random.Generator,
        part: int,
    ) -> tuple[int, float]:
        """One update from the mean loss over ``rows``; how many images were computed at once, and that loss."""
        height, width = self._images.pixels.shape[1:3]
        reach = (round(recipe.shift * height), round(recipe.shift * width))
        moves = np.stack([generator.integers(-side, side + 1, rows.size) for side in reach], axis=1)
        mirrored = generator.random(rows.size) < (0.5 if recipe.flip else 0.0)
        while True:
            optimizer.zero_grad(set_to_none=True)
            total = 0.0
            try:
                for start in range(0, rows.size, part):
                    chosen = slice(start, start + part)
                    images = self._batch(rows[chosen], moves[chosen], mirrored[chosen])
                    truth = torch.from_numpy(self._images.labels[rows[chosen]]).to(self._device)
                    loss = nn.functional.cross_entropy(network(images), truth, reduction="sum") / rows.size
                    total += loss.item()
                    if not math.isfinite(total):
                        raise FineTuningFailed("the loss is not finite: try a smaller learning rate")
                    loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            except (MemoryError, RuntimeError) as error:
                part = _halved(part, error, self._device)
            else:
                return part, total

    def _predict(self, network: nn.Module, rows: NDArray[np.int64], part: int) -> NDArray[np.float32]:
        blocks = []
        with torch.inference_mode():
            for start in range(0, rows.size, part):
                logits = network(self._batch(rows[start : start + part]))
                blocks.append(logits.to("cpu", torch.float64).softmax(dim=1).float().numpy())
        probabilities = np.concatenate(blocks)
        if not np.isfinite(probabilities).all():
            raise FineTuningFailed("the predictions are not finite: try a smaller learning rate")
        return probabilities

    def _batch(
        self,
        rows: NDArray[np.int64],
        moves: NDArray[np.int64] | None = None,
        mirrored: NDArray[np.bool_] | None = None,
    ) -> Tensor:
        """(n, 3, H, W) normalised, on the device, the channels innermost in memory."""
        pixels = self._images.pixels
        if moves is not None and moves.any():
            height, width = pixels.shape[1:3]
            down = np.clip(np.arange(height) + moves[:, :1], 0, height - 1)
            across = np.clip(np.arange(width) + moves[:, 1:], 0, width - 1)
            taken = pixels[rows[:, None, None], down[:, :, None], across[:, None, :]]
        else:
            taken = np.asarray(pixels[rows])
        if mirrored is not None and mirrored.any():
            taken[mirrored] = taken[mirrored, :, ::-1]
        mean, std = self._scale
        images = torch.from_numpy(taken).to(self._device).permute(0, 3, 1, 2).float()
        return images.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


class _Network(nn.Module):
    """The pre-trained body and a new head."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(_features(self.body, images))
        return logits


def _features(body: nn.Module, images: Tensor) -> Tensor:
    network: Any = body
    return pool(network.forward_head(network.forward_features(images), pre_logits=True), images.shape[0])


def default_body_rate(body: nn.Module) -> float:
    """The peak learning rate of the pre-trained weights."""
    normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in body.modules())
    return BODY_RATE if normalised else BODY_RATE_WITHOUT_BATCH_NORM


def default_batch_size(count: int) -> int:
    """Images per step, for this many images per epoch."""
    smallest, largest = BATCH_SIZES
    return min(max(count // STEPS_AN_EPOCH, smallest), largest)


def rate_factor(step: int, total: int, warm_up: float) -> float:
    """Share of the peak rate at a step, counted from 0: a linear rise, then half a cosine to zero."""
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1.0, total - warm_up))))


def negative_log_likelihood(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Mean of -log p of the true class, for (N, C) probabilities; p is at least the smallest 32-bit number."""
    chosen = probabilities[np.arange(labels.size), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def _groups(network: nn.Module, recipe: Recipe, body_rate: float) -> list[Mapping[str, Any]]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        rate = recipe.head_rate if name.startswith("head.") else body_rate
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]


def _halved(part: int, error: Exception, device: torch.device) -> int:
    """Half as many images at once; the error itself if that is not the cure."""
    if not is_out_of_memory(error):
        raise error
    if part == 1:
        raise FineTuningFailed(f"one image does not fit the memory of {device}: take a smaller model") from error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return part // 2
