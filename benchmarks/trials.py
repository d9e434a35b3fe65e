"""A trial against a plain PyTorch loop of the same recipe: seconds a model, and the ratio, in one run.

    python -m benchmarks.trials [--images 200] [--size 96] [ARCHITECTURE ...]

Random weights and images: speed does not depend on them. Both train on two thirds of the images for three epochs and
predict the rest; the plain loop normalises everything beforehand and reports nothing. Runs alternate, and the median of
the ratios counts; the goal is at most 1.1. A row that misses it is marked, and the script then ends with 1.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import nn

from workers.device.fine_tuning import FineTuner, Images, Recipe, default_batch_size
from workers.device.probe import probe_layer

GOAL = 1.1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATE = 5e-4
# A rate that is asked for is kept: networks of random weights would be trained twice.
RECIPE = Recipe(body_rate=RATE)


def plain_loop(
    body: nn.Module, images: torch.Tensor, labels: torch.Tensor, train: NDArray[np.int64], held_out: NDArray[np.int64]
) -> torch.Tensor:
    """The recipe as one would write it by hand: (n, C) probabilities of the held-out images."""

    def features(batch: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = body.forward_head(body.forward_features(batch), pre_logits=True)
        return pooled

    body.eval()
    with torch.inference_mode():
        frozen = torch.cat([features(images[start : start + 64]) for start in range(0, len(images), 64)]).numpy()
    head = probe_layer(frozen[train], labels.numpy()[train], int(labels.max()) + 1)
    matrices = [p for p in body.parameters() if p.ndim > 1]
    others = [p for p in body.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "lr": RATE, "weight_decay": 0.02},
            {"params": others, "lr": RATE, "weight_decay": 0.0},
            {"params": [head.weight], "lr": 2e-3, "weight_decay": 0.02},
            {"params": [head.bias], "lr": 2e-3, "weight_decay": 0.0},
        ],
        fused=True,
    )
    batch_size = default_batch_size(train.size)
    steps = math.ceil(train.size / batch_size)
    total, warm_up = RECIPE.epochs * steps, RECIPE.warm_up_epochs * steps

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (total - warm_up)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    order = np.random.default_rng(0)
    for _ in range(RECIPE.epochs):
        for rows in np.array_split(train[order.permutation(train.size)], steps):
            loss = nn.functional.cross_entropy(head(features(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        blocks = [images[held_out[start : start + 64]] for start in range(0, held_out.size, 64)]
        return torch.cat([head(features(block)).softmax(dim=1) for block in blocks])


def measure(
    architecture: str, count: int, size: int, rounds: int, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Median seconds of ours, of the plain loop, and the median ratio."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.int64)
    train, held_out = np.flatnonzero(np.arange(count) % 3), np.flatnonzero(np.arange(count) % 3 == 0)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    normalised = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    normalised = normalised.contiguous(memory_format=torch.channels_last)
    state = timm.create_model(architecture).state_dict()
    ours, plain = [], []
    for _ in range(rounds):
        for seconds in (ours, plain):
            body = timm.create_model(architecture).to(memory_format=torch.channels_last)
            body.load_state_dict(state)
            started = clock()
            if seconds is ours:
                FineTuner(body, Images(pixels, labels, 10, MEAN, STD), torch.device("cpu")).run(train, held_out, RECIPE)
            else:
                plain_loop(body, normalised, torch.from_numpy(labels), train, held_out)
            seconds.append(clock() - started)
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    return statistics.median(ours), statistics.median(plain), statistics.median(ratios)


def main() -> None:
    """Print a row an architecture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", default=["mobilenetv2_100", "tf_efficientnet_lite0", "resnet18"])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processor", action="store_true", help="Count the processor's seconds: for a busy machine.")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor else time.perf_counter
    missed = False
    print(f"{torch.get_num_threads()} threads, one fold of {arguments.images} images at {arguments.size} pixels")
    for architecture in arguments.architectures:
        ours, plain, ratio = measure(architecture, arguments.images, arguments.size, arguments.rounds, clock)
        missed |= ratio > GOAL
        mark = "  MISSED" if ratio > GOAL else ""
        print(f"{architecture:24s} trial {ours:6.1f} s, plain loop {plain:6.1f} s, ratio {ratio:.2f}{mark}", flush=True)
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
