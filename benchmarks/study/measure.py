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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.contracts.models import InputConfiguration
from benchmarks.study import targets, zoo
from estimators.arrays.sampling import stratified_folds
from workers.device.fine_tuning import FineTuner, Images, Recipe, negative_log_likelihood
from workers.images import transforms

FOLDS = 3
TRIAL = Recipe()
FULL: dict[str, Any] = {"epochs": 6, "shift": 0.08}
SLOWER = 0.3
# In this order, each for all targets: a study that is cut off is still about all of them.
STAGES = ("truth", "trial", "native", "noise")


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


def pixels_of(target: targets.Target, rows: NDArray[np.int64], config: InputConfiguration) -> NDArray[np.uint8]:
    """(n, H, W, 3)."""
    transform = transforms.build(config)
    return np.stack([transform(target.read(int(row))) for row in rows])


class Measurement:
    """One model on one target."""

    def __init__(
        self, cells: Cells, target: targets.Target, pixels: NDArray[np.uint8], entry: Mapping[str, Any], folder: Path
    ) -> None:
        """``pixels``: of the images to train on, then those to test on, at the size of the target."""
        self._cells, self._target, self._pixels, self._entry, self._folder = cells, target, pixels, entry, folder
        self._labels = target.labels[np.concatenate([target.train, target.test])]

    def measure(self, stage: str, given: Path | None) -> None:
        """What is missing of one stage."""
        match stage:
            case "truth":
                if given is None or not take_truth(self._cells, self._target, self._entry, given):
                    self.truth(seed=0)
                self.evidence(self._target.size)
            case "trial":
                self.trial()
            case "native":
                self.evidence(None)
            case "noise":
                self.truth(seed=1)

    def evidence(self, size: int | None) -> None:
        """Features and source probabilities: of all images at a size, or of those to train on by the model's own
        transform.
        """
        identity = self._identity(f"evidence-{size or 'native'}")
        if identity in self._cells.found:
            return
        started = time.perf_counter()
        config = zoo.input_of(self._entry, size)
        pixels = self._pixels if size else pixels_of(self._target, self._target.train, config)
        features, probabilities = zoo.frozen(zoo.build(self._entry, self._folder), pixels, config)
        arrays = {"features": features, "probabilities": probabilities, "labels": self._labels[: len(pixels)]}
        self._cells.add(identity, {"seconds": round(time.perf_counter() - started, 2)}, **arrays)

    def trial(self) -> None:
        """Short fine-tunings on the training images, each predicting the fold that it has not seen."""
        missing = [fold for fold in range(FOLDS) if self._identity(f"trial-{fold}") not in self._cells.found]
        if not missing:
            return
        count = self._target.train.size
        labels = self._labels[:count]
        folds = stratified_folds(labels, FOLDS)
        tuner = self._tuner(self._pixels[:count], labels)
        for fold in missing:
            held_out = np.flatnonzero(folds == fold)
            self._run(f"trial-{fold}", tuner, np.flatnonzero(folds != fold), held_out, TRIAL, 0)

    def truth(self, seed: int) -> None:
        """The full fine-tuning on the training images, scored on the test images.

        A model that ends below its own linear probe was trained too fast: it is fine-tuned again, at ``SLOWER`` times
        the rate, and the more accurate run is its truth. That looks at test images, but acts on clear failures only.
        """
        usual, slower = f"truth-{seed}", f"truth-{seed}-slower"
        count = self._target.train.size
        rows = np.arange(len(self._pixels))
        tuner: FineTuner | None = None
        for cell in (usual, slower):
            if self._identity(cell) in self._cells.found or (cell == slower and not self._fell(usual)):
                continue
            tuner = tuner or self._tuner(self._pixels, self._labels)
            rate = tuner.usual_rate * (SLOWER if cell == slower else 1.0)
            recipe = Recipe(**FULL, flip=self._target.flip, body_rate=rate)
            self._run(cell, tuner, rows[:count], rows[count:], recipe, seed)

    def _fell(self, cell: str) -> bool:
        found = self._cells.found[self._identity(cell)]
        return bool(found["accuracy"] < found["probe_accuracy"])

    def _run(
        self,
        cell: str,
        tuner: FineTuner,
        train: NDArray[np.int64],
        held_out: NDArray[np.int64],
        recipe: Recipe,
        seed: int,
    ) -> None:
        outcome = tuner.run(train, held_out, recipe, seed=seed)
        values = {
            "accuracy": outcome.accuracy,
            "nll": outcome.nll,
            "probe_accuracy": outcome.probe_accuracy,
            "seconds": round(outcome.seconds, 2),
        }
        arrays = {"probabilities": outcome.probabilities, "rows": held_out, "labels": self._labels[held_out]}
        self._cells.add(self._identity(cell), values, **arrays)

    def _tuner(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> FineTuner:
        mean, std = tuple(self._entry["mean"]), tuple(self._entry["std"])
        images = Images(pixels, labels, self._target.classes, mean, std)
        return FineTuner(zoo.build(self._entry, self._folder), images, torch.device("cpu"))

    def _identity(self, cell: str) -> str:
        return f"{self._target.name}/{self._entry['name']}/{cell}"


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


def main() -> None:
    """Measure what is missing, stage by stage and target by target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", metavar="TARGET[=DIR]")
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cells = Cells(arguments.work)
    entries = zoo.entries(arguments.zoo)
    chosen = [named.partition("=") for named in arguments.targets]
    found = [targets.load(name, Path(path) if path else None, arguments.truth) for name, _, path in chosen]
    for stage in arguments.stages:
        for target in found:
            shape = f"{target.classes} classes, {target.train.size} to train on, {target.test.size} to test on"
            print(f"{stage} of {target.name}: {shape}", flush=True)
            rows = np.concatenate([target.train, target.test])
            pixels = pixels_of(target, rows, zoo.input_of(entries[0], target.size))
            for entry in entries:
                Measurement(cells, target, pixels, entry, arguments.zoo).measure(stage, arguments.truth)


if __name__ == "__main__":
    main()
