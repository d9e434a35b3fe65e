"""What must not change a score, on any data: the order of samples, names of classes, origin, rotation, scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import METRICS, Evidence
from tests.estimators.examples import evidence

SHAPES = st.builds(
    evidence,
    samples=st.integers(40, 120),
    dimensions=st.integers(2, 30),
    classes=st.integers(2, 6),
    separation=st.floats(0.0, 3.0),
    relu=st.booleans(),
    seed=st.integers(0, 1000),
)
# Mixtures, folds and ties between neighbours go by the order of the samples.
ORDERLY = sorted(set(METRICS) - {"nleep", "linear_probe", "nearest_neighbor"})


def value(name: str, given: Evidence) -> float:
    return float(METRICS[name].compute(given))


def moved(given: Evidence, change: object) -> Evidence:
    return Evidence(change(given.features), given.labels, given.source_probabilities, change(given.reference_features))


@pytest.mark.parametrize("name", ORDERLY)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(whole=SHAPES, seed=st.integers(0, 99))
def test_the_order_of_samples(name: str, whole: Evidence, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(whole.labels))
    shuffled = Evidence(
        whole.features[order], whole.labels[order], whole.source_probabilities[order], whole.reference_features
    )
    assert value(name, shuffled) == pytest.approx(value(name, whole), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ORDERLY)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(whole=SHAPES, seed=st.integers(0, 99))
def test_the_names_of_classes(name: str, whole: Evidence, seed: int) -> None:
    names = np.random.default_rng(seed).permutation(100)[whole.labels]
    renamed = Evidence(whole.features, names, whole.source_probabilities, whole.reference_features)
    assert value(name, renamed) == pytest.approx(value(name, whole), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["tmi", "h_score", "regularized_h_score", "sfda", "lda", "ped", "gbc", "transrate"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(whole=SHAPES, shift=st.floats(-10, 10))
def test_the_origin(name: str, whole: Evidence, shift: float) -> None:
    assert value(name, moved(whole, lambda x: x + shift)) == pytest.approx(value(name, whole), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", ["logme", "h_score", "regularized_h_score", "parc", "nearest_neighbor"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(whole=SHAPES, scale=st.floats(0.01, 100))
def test_the_scale(name: str, whole: Evidence, scale: float) -> None:
    assert value(name, moved(whole, lambda x: scale * x)) == pytest.approx(value(name, whole), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", ["sfda", "lda"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(whole=SHAPES, scale=st.floats(0.01, 100))
def test_the_scale_of_rows_of_length_one(name: str, whole: Evidence, scale: float) -> None:
    one, other = (METRICS[name].compute(moved(whole, lambda x, s=s: s * x), scale="rows").value for s in (1.0, scale))
    assert other == pytest.approx(one, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", ["logme", "h_score", "regularized_h_score", "transrate", "gbc"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(whole=SHAPES, seed=st.integers(0, 99))
def test_rotation(name: str, whole: Evidence, seed: int) -> None:
    size = whole.features.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    if name == "gbc":
        # The floor of the variances is a floor in each dimension; above it the spherical form knows no directions.
        whole = moved(whole, lambda x: 100 * x)
    assert value(name, moved(whole, lambda x: x @ rotation)) == pytest.approx(value(name, whole), rel=1e-5, abs=1e-8)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(whole=SHAPES)
def test_knowing_the_source_class_never_hurts(whole: Evidence) -> None:
    """LEEP and NCE lie between minus the entropy of the labels and nothing."""
    shares = np.bincount(whole.labels) / len(whole.labels)
    entropy = -np.sum(shares * np.log(shares))
    assert -entropy - 1e-9 <= value("nce", whole) <= 0
    assert value("leep", whole) <= 0
