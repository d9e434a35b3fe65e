"""The fast mixture against scikit-learn's."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from estimators.arrays.mixture import fit_responsibilities
from tests.estimators.examples import classes_in_space


@pytest.mark.parametrize(
    ("samples", "dimensions", "components", "separation"),
    [(400, 3, 8, 0.3), (400, 3, 8, 3.0), (300, 20, 12, 1.0), (200, 60, 25, 1.0), (500, 1, 4, 0.5)],
    ids=["overlapping", "separated", "more dimensions", "fewer samples than dimensions", "one dimension"],
)
def test_responsibilities_equal_those_of_scikit_learn(
    samples: int, dimensions: int, components: int, separation: float
) -> None:
    rows, _ = classes_in_space(samples, dimensions, separation=separation)
    expected = GaussianMixture(components, random_state=3).fit(rows)
    found = fit_responsibilities(rows, components, seed=3)
    assert np.abs(found.responsibilities - expected.predict_proba(rows)).max() < 1e-6
    assert found.iterations == expected.n_iter_
    assert found.converged == expected.converged_


def test_covariances_that_scikit_learn_refuses_are_regularised_more() -> None:
    rng = np.random.default_rng(0)
    rows = 1e7 * rng.normal(size=(60, 1)) * np.ones(20) + 1e-3 * rng.normal(size=(60, 20))
    with pytest.raises(ValueError, match="ill-defined"):
        GaussianMixture(4, random_state=0).fit(rows)
    found = fit_responsibilities(rows, 4, seed=0)
    assert found.regularisation > 1e-6
    assert found.responsibilities.sum(axis=1) == pytest.approx(1)
