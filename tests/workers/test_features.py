import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.contracts.models import InputConfiguration, ModelCard
from workers.errors import EvidenceMissing, StorageFull
from workers.store.features import FeatureStore, evidence_key, evidence_keys
from workers.store.folder import FolderStore

INPUT = {
    "input_size": [3, 64, 64],
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
}
PLAIN: dict[str, Any] = {
    "weights_digest": "w",
    "architecture": "resnet18",
    "arguments": {"num_classes": 10},
    "layer": "head",
    "transform": INPUT,
    "dataset_fingerprint": "d",
    "sample_indices": [0, 1, 2],
}


@pytest.mark.parametrize(
    "change",
    [
        {"weights_digest": "v"},
        {"architecture": "resnet34"},
        {"arguments": {"num_classes": 11}},
        {"layer": "layer1"},
        {"transform": INPUT | {"mean": [0.4] * 3}},
        {"dataset_fingerprint": "e"},
        {"sample_indices": [0, 2, 1]},
        {"pooling": "maximum"},
        {"precision": "float16"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_counts(change: dict[str, Any]) -> None:
    assert evidence_key(**PLAIN | change) != evidence_key(**PLAIN)


def test_the_form_of_the_parts_does_not_count() -> None:
    shuffled = dict(reversed(INPUT.items()))
    same = PLAIN | {"transform": shuffled, "sample_indices": np.arange(3, dtype=np.int32)}
    assert evidence_key(**same) == evidence_key(**PLAIN)


def test_a_card_gives_a_key_for_each_layer() -> None:
    card = ModelCard(
        weights_digest="w",
        architecture="resnet18",
        arguments={"num_classes": 10},
        parameters=1,
        input=InputConfiguration.read(INPUT),
        feature_dimension=2,
        source_classes=10,
    )
    keys = evidence_keys(card, dataset_fingerprint="d", sample_indices=[0, 1, 2], layers=["head", "layer1"])
    assert keys["head"] == evidence_key(**PLAIN)
    assert keys["layer1"] == evidence_key(**PLAIN | {"layer": "layer1"})


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    store = FeatureStore(FolderStore(tmp_path, 10**9))
    key = evidence_key(**PLAIN)
    features, labels = np.ones((3, 2), np.float32), np.array([0, 1, 1])
    store.write(key, features=features, labels=labels, source_probabilities=None, manifest={"n": 3})
    assert store.has_many([key, "0" * 64]) == {key}
    with store.open(key) as evidence:
        np.testing.assert_array_equal(evidence.features, features)
        np.testing.assert_array_equal(evidence.labels, labels)
        assert evidence.source_probabilities is None
        assert evidence.manifest == {"n": 3}
        assert not evidence.features.flags.writeable


def write(store: FeatureStore, key: str, samples: int = 3) -> None:
    features, labels = np.ones((samples, 2), np.float32), np.arange(samples)
    store.write(key, features=features, labels=labels, source_probabilities=features, manifest={})


def test_the_files_are_as_numpy_writes_them(tmp_path: Path) -> None:
    store = FeatureStore(FolderStore(tmp_path, 10**9))
    features = np.arange(12, dtype=np.float32).reshape(3, 4)
    columns_first = np.asfortranarray(features)
    store.write("a" * 64, features=columns_first, labels=np.arange(3), source_probabilities=None, manifest={})
    np.save(tmp_path / "features.npy", features, allow_pickle=False)
    assert next(tmp_path.glob("aa/*/*/features.npy")).read_bytes() == (tmp_path / "features.npy").read_bytes()


@pytest.mark.parametrize("damage", ["absent", "flipped", "truncated"])
def test_evidence_that_cannot_be_had_is_said_to_be_missing(damage: str, tmp_path: Path) -> None:
    store, key = FeatureStore(FolderStore(tmp_path, 10**9)), "a" * 64
    if damage != "absent":
        write(store, key)
        path = next(tmp_path.glob("aa/*/*/features.npy"))
        content = path.read_bytes()
        path.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if damage == "flipped" else b""))
    with pytest.raises(EvidenceMissing):
        store.open(key)
    assert store.has_many([key]) == set()


def test_evidence_that_the_disk_cannot_take(small_disk: Path) -> None:
    store, first, second = FeatureStore(FolderStore(small_disk, 10**12)), "a" * 64, "b" * 64
    write(store, first, 100_000)
    with store.open(first), pytest.raises(StorageFull):
        write(store, second, 100_000)
    assert store.has_many([first, second]) == {first}
    write(store, second, 100_000)
    assert store.has_many([first, second]) == {second}


def test_it_needs_no_torch() -> None:
    modules = "workers.store.features, workers.device.extractor, workers.inspection.images"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
