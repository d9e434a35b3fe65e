"""Fill the cells of the study: evidence, trial and fine-tuned truth of every model on every target. Resumable.

    python -m benchmarks.study.measure --zoo DIR --work DIR TARGET[=DIR] ...

A cell that ``--work`` already holds is not measured again, so that the command may be stopped at any time. Each cell is
a line of ``cells.jsonl`` and, beside it, its arrays. The zoo is a folder with ``zoo.json`` (see ``zoo.entries``).
``--truth DIR`` may give splits and fine-tuned predictions that exist already (NAME_split.json and
NAME_test_probabilities.npz with y_test, and MODEL__seed0 for each model).
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.study import targets, zoo
from estimators.arrays.sampling import stratified_folds
from workers.device.fine_tuning import FineTuner, Images, Recipe, negative_log_likelihood
from workers.images import transforms

SIZE = 96
FOLDS = 3
SEEDS = 1
TRIAL = Recipe()
FULL = {"epochs": 8, "shift": 0.08}


class Cells:
    """What was measured: a dictionary a line, and arrays by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "arrays").mkdir(parents=True, exist_ok=True)
        self._file = folder / "cells.jsonl"
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self.found = {cell["id"]: cell for cell in map(json.loads, lines)}

    def add(self, identity: str, values: Mapping[str, Any], **arrays: NDArray[Any]) -> None:
        """Write arrays first, so that a line means that they are there."""
        np.savez(self.folder / "arrays" / f"{identity.replace('/', '-')}.npz", **arrays)
        self.found[identity] = {"id": identity, **values}
        with self._file.open("a") as file:
            file.write(json.dumps(self.found[identity]) + "\n")
        shown = {name: value for name, value in values.items() if isinstance(value, (int, float, str))}
        print(time.strftime("%H:%M:%S"), identity, json.dumps(shown), flush=True)

    def arrays(self, identity: str) -> dict[str, NDArray[Any]]:
        """What was stored beside the line."""
        with np.load(self.folder / "arrays" / f"{identity.replace('/', '-')}.npz") as data:
            return dict(data)


def pixels_of(target: targets.Target, rows: NDArray[np.int64], config: Mapping[str, Any]) -> NDArray[np.uint8]:
    """(n, H, W, 3)."""
    transform = transforms.build(config)
    return np.stack([transform(target.read(int(row))) for row in rows])


def measure_evidence(cells: Cells, target: targets.Target, entry: Mapping[str, Any], folder: Path) -> None:
    """Features and source probabilities of the training images, by the model's own transform and at ``SIZE``."""
    for name, size in (("native", None), (str(SIZE), SIZE)):
        identity = f"{target.name}/{entry['name']}/evidence-{name}"
        if identity in cells.found:
            continue
        started = time.perf_counter()
        config = zoo.input_of(entry, size)
        pixels = pixels_of(target, target.train, config)
        features, probabilities = zoo.frozen(zoo.build(entry, folder), pixels, config)
        labels = target.labels[target.train]
        seconds = round(time.perf_counter() - started, 2)
        cells.add(identity, {"seconds": seconds}, features=features, probabilities=probabilities, labels=labels)


def measure_trial(
    cells: Cells,
    target: targets.Target,
    entry: Mapping[str, Any],
    folder: Path,
    pixels: NDArray[np.uint8],
    wanted: Sequence[int],
) -> None:
    """Short fine-tunings on the training images, each predicting the fold that it has not seen."""
    missing = [fold for fold in wanted if f"{target.name}/{entry['name']}/trial-{fold}" not in cells.found]
    if not missing:
        return
    labels = target.labels[target.train]
    folds = stratified_folds(labels, FOLDS)
    tuner = FineTuner(zoo.build(entry, folder), _images(entry, pixels, labels, target.classes), torch.device("cpu"))
    for fold in missing:
        held_out = np.flatnonzero(folds == fold)
        outcome = tuner.run(np.flatnonzero(folds != fold), held_out, TRIAL)
        values = {
            "nll": outcome.nll,
            "accuracy": outcome.accuracy,
            "probe_accuracy": outcome.probe_accuracy,
            "seconds": round(outcome.seconds, 2),
        }
        arrays = {"probabilities": outcome.probabilities, "rows": held_out, "labels": labels[held_out]}
        cells.add(f"{target.name}/{entry['name']}/trial-{fold}", values, **arrays)


def measure_truth(cells: Cells, target: targets.Target, entry: Mapping[str, Any], folder: Path, seeds: int) -> None:
    """The full fine-tuning on the training images, scored on the test images."""
    wanted = [seed for seed in range(seeds) if f"{target.name}/{entry['name']}/truth-{seed}" not in cells.found]
    if not wanted:
        return
    rows = np.concatenate([target.train, target.test])
    pixels, labels = pixels_of(target, rows, zoo.input_of(entry, SIZE)), target.labels[rows]
    train, test = np.arange(target.train.size), np.arange(target.train.size, rows.size)
    tuner = FineTuner(zoo.build(entry, folder), _images(entry, pixels, labels, target.classes), torch.device("cpu"))
    for seed in wanted:
        outcome = tuner.run(train, test, Recipe(**FULL, flip=target.flip), seed=seed)
        values = {
            "accuracy": outcome.accuracy,
            "nll": outcome.nll,
            "probe_accuracy": outcome.probe_accuracy,
            "seconds": round(outcome.seconds, 2),
        }
        identity = f"{target.name}/{entry['name']}/truth-{seed}"
        cells.add(identity, values, probabilities=outcome.probabilities, labels=labels[test])


def take_truth(cells: Cells, target: targets.Target, entry: Mapping[str, Any], truth: Path) -> bool:
    """Use fine-tuned predictions that exist; whether they do."""
    file = truth / f"{target.name}_test_probabilities.npz"
    identity = f"{target.name}/{entry['name']}/truth-0"
    if not file.exists():
        return False
    if identity not in cells.found:
        with np.load(file) as data:
            probabilities, labels = data[f"{entry['name']}__seed0"].astype(np.float32), data["y_test"]
        accuracy = float(np.mean(probabilities.argmax(axis=1) == labels))
        values = {"accuracy": accuracy, "nll": negative_log_likelihood(probabilities, labels), "given": True}
        cells.add(identity, values, probabilities=probabilities, labels=labels)
    return True


def _images(entry: Mapping[str, Any], pixels: NDArray[np.uint8], labels: NDArray[np.int64], classes: int) -> Images:
    return Images(pixels, labels, classes, tuple(entry["mean"]), tuple(entry["std"]))


def main() -> None:
    """Measure what is missing, target by target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", metavar="TARGET[=DIR]")
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the fine-tuned truth")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cells = Cells(arguments.work)
    chosen = [named.partition("=") for named in arguments.targets]
    found = [targets.load(name, Path(path) if path else None, arguments.truth) for name, _, path in chosen]
    # One fold of every model on every target before the others: a study that is cut off is still about all of them.
    for wanted in ([0], list(range(FOLDS))):
        for target in found:
            shape = f"{target.classes} classes, {target.train.size} to train on, {target.test.size} to test on"
            print(f"{target.name}: {shape}", flush=True)
            _measure(cells, target, arguments, wanted)


def _measure(cells: Cells, target: targets.Target, arguments: argparse.Namespace, wanted: Sequence[int]) -> None:
    entries = zoo.entries(arguments.zoo)
    squashed = pixels_of(target, target.train, zoo.input_of(entries[0], SIZE))
    for entry in entries:
        measure_evidence(cells, target, entry, arguments.zoo)
        measure_trial(cells, target, entry, arguments.zoo, squashed, wanted)
        if arguments.truth is None or not take_truth(cells, target, entry, arguments.truth):
            measure_truth(cells, target, entry, arguments.zoo, arguments.seeds)


if __name__ == "__main__":
    main()
