"""Held-out predictions by key, in the same entries as the features and under the same quota."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.contracts.fine_tuning import FineTuningRecipe
from app.contracts.models import InputConfiguration, ModelCard
from app.settings import Settings
from workers.errors import EvidenceMissing
from workers.store.entries import EntryStore
from workers.store.features import entries_of

# Raise it when the code of fine-tuning changes what it computes.
FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Predictions:
    """What one run predicted.

    Attributes:
        rows: (n,) positions within the sample.
        probabilities: (n, C) float32.
        labels: (n,) codes.
        manifest: the run's result, device and versions.
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    manifest: dict[str, Any]


def run_key(
    card: ModelCard,
    *,
    dataset_fingerprint: str,
    sample_indices: Sequence[int] | NDArray[np.integer],
    transform: InputConfiguration,
    train: Sequence[int] | NDArray[np.integer],
    held_out: Sequence[int] | NDArray[np.integer],
    recipe: FineTuningRecipe,
) -> str:
    """SHA-256 over canonical JSON of all that the predictions depend on."""
    content = {
        "format": FORMAT_VERSION,
        "kind": "predictions",
        "weights": card.weights_digest,
        "architecture": card.architecture,
        "arguments": card.arguments,
        "transform": transform.plain(),
        "dataset": dataset_fingerprint,
        "sample": _digest(sample_indices),
        "train": _digest(train),
        "held_out": _digest(held_out),
        "recipe": recipe.plain(),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(positions: Sequence[int] | NDArray[np.integer]) -> str:
    return hashlib.sha256(np.ascontiguousarray(positions, dtype="<i8").tobytes()).hexdigest()


class TrialStore:
    """Predictions by key."""

    def __init__(self, entries: EntryStore) -> None:
        self._entries = entries

    @classmethod
    def of(cls, settings: Settings) -> "TrialStore":
        """The store that the settings describe."""
        return cls(entries_of(settings))

    def has_many(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that are there."""
        return self._entries.has_many(keys)

    def read(self, key: str) -> Predictions:
        """The predictions, copied into memory.

        Raises:
            EvidenceMissing: there are none, or they were damaged.
        """
        try:
            entry = self._entries.open(key)
        except KeyError:
            raise EvidenceMissing(f"the predictions {key} are not in the store any more") from None
        with entry:
            rows, probabilities, labels = (
                np.load(entry.folder / f"{name}.npy", allow_pickle=False)
                for name in ("rows", "probabilities", "labels")
            )
            return Predictions(rows, probabilities, labels, entry.manifest)

    def write(self, key: str, predictions: Predictions) -> None:
        """Store predictions whole or not at all."""
        with self._entries.write(key, predictions.manifest) as folder:
            for name in ("rows", "probabilities", "labels"):
                np.save(folder / f"{name}.npy", getattr(predictions, name), allow_pickle=False)

    def lock(self, *keys: str, should_stop: Callable[[], bool] | None = None) -> AbstractContextManager[None]:
        """Wait for, then hold, the right to compute ``keys``."""
        return self._entries.lock(*keys, should_stop=should_stop)
