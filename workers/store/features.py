"""The feature store: what a forward pass left of one model on one data set, found again by content.

No torch here: keys are computed, and evidence is read, wherever NumPy runs.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.contracts.models import ModelCard
from app.settings import Settings
from workers.errors import EvidenceMissing, StorageFull
from workers.store.entries import Entry, EntryStore
from workers.store.folder import FolderStore
from workers.store.objects import shared

FORMAT_VERSION = 2
HEAD = "head"


def evidence_key(
    *,
    weights_digest: str,
    architecture: str,
    arguments: Mapping[str, Any],
    layer: str,
    transform: Mapping[str, Any],
    dataset_fingerprint: str,
    sample_indices: Sequence[int] | NDArray[np.integer],
    pooling: str = "average",
    precision: str = "float32",
) -> str:
    """SHA-256 over canonical JSON of all that the evidence depends on.

    Args:
        weights_digest: digest of the model's state (``ModelCard.weights_digest``).
        architecture: timm architecture.
        arguments: keyword arguments with which it was built.
        layer: ``"head"`` (pooled features before the classifier, and source probabilities) or a module's name.
        transform: the input configuration (size, crop, interpolation, mean, standard deviation).
        dataset_fingerprint: ``DatasetIndex.fingerprint``.
        sample_indices: (N,) indices into the data set, in the order of the rows.
        pooling: how an output with positions becomes one row.
        precision: of the forward pass.
    """
    indices = np.ascontiguousarray(sample_indices, dtype="<i8")
    return _digest(
        {
            "format": FORMAT_VERSION,
            "weights": weights_digest,
            "architecture": architecture,
            "arguments": arguments,
            "layer": layer,
            "pooling": pooling,
            "transform": transform,
            "dtype": precision,
            "dataset": dataset_fingerprint,
            "sample": hashlib.sha256(indices.tobytes()).hexdigest(),
        }
    )


def evidence_keys(
    card: ModelCard,
    *,
    dataset_fingerprint: str,
    sample_indices: Sequence[int] | NDArray[np.integer],
    layers: Iterable[str] = (HEAD,),
    precision: str = "float32",
) -> dict[str, str]:
    """The key of every layer of the model that ``card`` describes."""
    return {
        layer: evidence_key(
            weights_digest=card.weights_digest,
            architecture=card.architecture,
            arguments=card.arguments,
            layer=layer,
            transform=card.input.plain(),
            dataset_fingerprint=dataset_fingerprint,
            sample_indices=sample_indices,
            precision=precision,
        )
        for layer in layers
    }


class Evidence:
    """Memory-mapped arrays of one entry. While it is open the entry is not evicted. A context manager.

    Attributes:
        features: (N, D) float32.
        labels: (N,) int64 class codes.
        source_probabilities: (N, S) float32, or None for a model without a classifier and for inner layers.
        manifest: device, batch size, threads, versions, seconds, class names and what the key was made of.
    """

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.manifest = entry.manifest
        self.features = _map(entry.folder / "features.npy")
        self.labels = _map(entry.folder / "labels.npy")
        probabilities = entry.folder / "source_probabilities.npy"
        self.source_probabilities = _map(probabilities) if probabilities.exists() else None

    def close(self) -> None:
        """Let the entry be evicted again."""
        self._entry.close()

    def __enter__(self) -> "Evidence":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def entries_of(settings: Settings) -> EntryStore:
    """Where features and predictions lie, under one quota."""
    quota, reserve = (
        int(gigabytes * 1e9) for gigabytes in (settings.feature_quota_gigabytes, settings.disk_reserve_gigabytes)
    )
    return shared(settings, "features", FolderStore(settings.features_folder, quota, reserve))


class FeatureStore:
    """Evidence by key."""

    def __init__(self, entries: EntryStore) -> None:
        self._entries = entries

    @classmethod
    def of(cls, settings: Settings) -> "FeatureStore":
        """The store that the settings describe."""
        return cls(entries_of(settings))

    def has_many(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that are there. One that is damaged is found out when it is opened."""
        return self._entries.has_many(keys)

    def open(self, key: str) -> Evidence:
        """Hold evidence.

        Raises:
            EvidenceMissing: there is none, or it was damaged and has been put aside: it has to be extracted again.
        """
        try:
            entry = self._entries.open(key)
        except KeyError:
            raise EvidenceMissing(f"the evidence {key} is not in the feature store any more") from None
        try:
            return Evidence(entry)
        except BaseException:
            entry.close()
            raise

    def write(
        self,
        key: str,
        *,
        features: NDArray[np.float32],
        labels: NDArray[np.int64],
        source_probabilities: NDArray[np.float32] | None,
        manifest: dict[str, Any],
    ) -> None:
        """Store evidence whole or not at all. What is already there stays.

        Raises:
            StorageFull: the disk has no room, even without the evidence that is not in use.
        """
        arrays: dict[str, NDArray[Any]] = {"features": features, "labels": labels}
        if source_probabilities is not None:
            arrays["source_probabilities"] = source_probabilities
        needed = sum(array.nbytes for array in arrays.values())
        if not self._entries.make_room(needed):
            raise StorageFull(f"the disk has no room for {needed / 1e6:.1f} MB of features: free some of it")
        with self._entries.write(key, manifest) as folder:
            for name, array in arrays.items():
                _save(folder / f"{name}.npy", array)

    def lend(self, reads: Iterable[str], writes: Iterable[str] = ()) -> AbstractContextManager[None]:
        """Have a child process find ``reads`` on this host, and keep what it makes of ``writes``."""
        return self._entries.lend(reads, writes)

    def lock(self, *keys: str, should_stop: Callable[[], bool] | None = None) -> AbstractContextManager[None]:
        """Wait for, then hold, the right to compute ``keys``; given back if the holder dies."""
        return self._entries.lock(*keys, should_stop=should_stop)

    def delete(self, key: str) -> bool:
        """Remove the evidence. False if it is missing or in use."""
        return self._entries.delete(key)


def _map(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _save(path: Path, array: NDArray[Any]) -> None:
    """As ``numpy.save``, which does not say that a disk is full, but only how much was written."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.reshape(-1).view(np.uint8).data)


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
