"""The fast metrics against the plain formulas, on easy, hard, rectified, small-scale and wide features."""

from collections.abc import Callable

import numpy as np
import pytest

import estimators
from estimators import METRICS, Evidence
from tests.estimators.examples import classes_in_space, probabilities_for
from tests.reference import formulas

SETTINGS = {
    "separated": {"separation": 3.0},
    "overlapping": {"separation": 0.2},
    "rectified": {"relu": True},
    "small scale": {"scale": 0.01},
    "many classes": {"samples": 900, "classes": 100, "dimensions": 30},
    "two classes": {"classes": 2},
}
BY_FEATURES = {
    "tmi": formulas.tmi,
    "logme": formulas.logme,
    "h_score": formulas.h_score,
    "regularized_h_score": formulas.regularized_h_score,
    "lda": formulas.lda,
    "sfda": formulas.sfda,
    "transrate": formulas.transrate,
    "parc": formulas.parc,
    "nearest_neighbor": formulas.nearest_neighbor,
    "gbc": formulas.gbc,
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", BY_FEATURES)
def test_metric_equals_its_formula(name: str, setting: str) -> None:
    x, y = classes_in_space(**SETTINGS[setting])
    assert float(getattr(estimators, name)(features=x, labels=y)) == pytest.approx(BY_FEATURES[name](x, y), rel=1e-7)


@pytest.mark.parametrize(
    ("name", "formula"),
    [("logme", formulas.logme), ("regularized_h_score", formulas.regularized_h_score), ("parc", formulas.parc),
     ("transrate", formulas.transrate), ("gbc", formulas.gbc), ("tmi", formulas.tmi)],
)  # fmt: skip
def test_metric_equals_its_formula_with_more_dimensions_than_samples(
    name: str, formula: Callable[[np.ndarray, np.ndarray], float]
) -> None:
    x, y = classes_in_space(samples=90, dimensions=200)
    assert float(getattr(estimators, name)(features=x, labels=y)) == pytest.approx(formula(x, y), rel=1e-7)


@pytest.mark.parametrize("setting", SETTINGS)
def test_leep_and_nce_equal_their_formulas(setting: str) -> None:
    _, y = classes_in_space(**SETTINGS[setting])
    p = probabilities_for(y, 30)
    z = p.argmax(axis=1)
    assert float(estimators.leep(source_probabilities=p, labels=y)) == pytest.approx(formulas.leep(p, y), rel=1e-12)
    assert float(estimators.nce(source_labels=z, labels=y)) == pytest.approx(formulas.nce(z, y), rel=1e-12)


@pytest.mark.parametrize("setting", ["separated", "overlapping", "rectified", "many classes"])
def test_ped_equals_its_formula(setting: str) -> None:
    x, y = classes_in_space(**SETTINGS[setting])
    reference = np.abs(np.random.default_rng(5).normal(size=(80, x.shape[1])))
    score = estimators.ped(features=x, labels=y, reference_features=reference)
    assert float(score) == pytest.approx(formulas.ped(x, y, reference), rel=1e-9)


def test_gbc_diagonal_equals_its_formula() -> None:
    x, y = classes_in_space()
    score = estimators.gbc(features=x, labels=y, covariance="diagonal", components=None)
    assert float(score) == pytest.approx(formulas.gbc(x, y, None, spherical=False), rel=1e-9)


@pytest.mark.parametrize("setting", ["separated", "small scale"])
def test_nleep_equals_its_formula(setting: str) -> None:
    x, y = classes_in_space(**SETTINGS[setting])
    assert float(estimators.nleep(features=x, labels=y)) == pytest.approx(formulas.nleep(x, y), rel=1e-7)


def test_energy_equals_its_formula() -> None:
    x, _ = classes_in_space(samples=1000)
    assert float(estimators.energy(features=x)) == pytest.approx(formulas.energy(x), rel=1e-12)


def test_logme_of_a_target_is_at_its_maximum() -> None:
    """No other prior precision and noise give the target more evidence."""
    x, _ = classes_in_space(samples=60)
    t = x @ np.random.default_rng(0).normal(size=x.shape[1]) + np.random.default_rng(1).normal(size=len(x))
    best = float(estimators.logme(features=x, targets=t))
    n = len(x)
    for alpha in np.geomspace(1e-3, 1e3, 25):
        for beta in np.geomspace(1e-2, 1e2, 25):
            covariance = np.eye(n) / beta + x @ x.T / alpha
            evidence = -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + t @ np.linalg.solve(covariance, t)) / n
            assert evidence <= best + 1e-12


@pytest.mark.parametrize("name", ["sfda", "lda"])
def test_discriminants_of_rows_of_length_one_equal_their_formulas(name: str) -> None:
    x, y = classes_in_space(relu=True, scale=20.0)
    score = METRICS[name].compute(Evidence(x, y), scale="rows")
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert float(score) == pytest.approx(BY_FEATURES[name](rows, y), rel=1e-9)


def test_ped_of_rows_of_length_one_equals_its_formula() -> None:
    x, y = classes_in_space(relu=True, scale=20.0)
    reference = np.abs(np.random.default_rng(5).normal(size=(80, x.shape[1])))
    score = estimators.ped(features=x, labels=y, reference_features=reference, scale="rows")
    moved = formulas.ped_moved(x, y, reference)
    rows = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    assert float(score) == pytest.approx(formulas.sfda(rows, y), rel=1e-9)
