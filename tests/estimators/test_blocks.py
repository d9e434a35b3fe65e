"""Arrays taken a block at a time: the same numbers as of the whole, and no whole copy in double precision."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from estimators import METRICS, Evidence, InvalidEvidence
from estimators.arrays import validation
from estimators.arrays.validation import check_features, check_probabilities
from estimators.comparison.resampling import resample
from tests.estimators.examples import evidence

EVIDENCE = evidence(samples=300, dimensions=20, relu=True)
SAMPLES, DIMENSIONS, SOURCES = 20_000, 250, 400
DOUBLE = {"features": SAMPLES * DIMENSIONS * 8, "source_probabilities": SAMPLES * SOURCES * 8}


@pytest.mark.parametrize("name", sorted(METRICS))
def test_blocks_give_the_numbers_of_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resample(name, EVIDENCE, resamples=5)
    monkeypatch.setattr(validation, "BLOCK_NUMBERS", 1)
    blocks = resample(name, EVIDENCE, resamples=5)
    assert blocks.score.value == pytest.approx(whole.score.value, rel=1e-9)
    np.testing.assert_allclose(blocks.values, whole.values, rtol=1e-7)


@pytest.mark.parametrize("convert", [True, False])
def test_the_row_of_a_later_block_is_named(convert: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "BLOCK_NUMBERS", 1)
    features, probabilities = np.zeros((50, 4), np.float32), np.full((50, 4), 0.25, np.float32)
    features[37, 2], probabilities[41, 1] = np.nan, -0.25
    with pytest.raises(InvalidEvidence, match="row 37"):
        check_features(features, convert=convert)
    with pytest.raises(InvalidEvidence, match="row 41"):
        check_probabilities(probabilities, convert=convert)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """As the feature store gives it."""
    folder: Path = tmp_path_factory.mktemp("mapped")
    rng = np.random.default_rng(0)
    labels = np.arange(SAMPLES) % 40
    features = (rng.normal(size=(40, DIMENSIONS))[labels] + rng.normal(size=(SAMPLES, DIMENSIONS))).clip(0)
    probabilities = rng.random((SAMPLES, SOURCES)) + 1e-3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.save(folder / "features.npy", features.astype(np.float32))
    np.save(folder / "source_probabilities.npy", probabilities.astype(np.float32))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in DOUBLE}
    return Evidence(labels=labels, **arrays)


@pytest.mark.parametrize(
    ("name", "of", "copies"),
    [
        ("nce", "source_probabilities", 0.5),
        ("leep", "source_probabilities", 0.5),
        ("energy", "features", 0.5),
        ("logme", "features", 0.5),
        ("tmi", "features", 0.5),
        # Sorted by class: one copy.
        ("h_score", "features", 1.9),
        ("regularized_h_score", "features", 1.9),
        ("lda", "features", 1.9),
        ("sfda", "features", 1.9),
    ],
)
def test_mapped_evidence_is_not_copied_whole(
    mapped: Evidence, name: str, of: str, copies: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "BLOCK_NUMBERS", 200_000)  # small against this evidence, as in use
    resample(name, evidence(samples=50, dimensions=5), resamples=2)  # what is imported on first use does not count
    tracemalloc.start()
    try:
        resample(name, mapped, resamples=10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < copies * DOUBLE[of]
