"""Exact neighbours, however many samples, however the coordinates lie."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from estimators.arrays import chebyshev

CASES = {
    "alike dimensions": lambda rng: rng.normal(size=(300, 40)),
    "unlike dimensions": lambda rng: rng.normal(size=(300, 40)) * np.geomspace(0.01, 10, 40),
    "an outlier that widens the grid": lambda rng: np.concatenate([rng.normal(size=(299, 40)), np.full((1, 40), 1e6)]),
    "repeated samples": lambda rng: np.repeat(rng.normal(size=(60, 40)), 5, axis=0),
    "rectified": lambda rng: np.maximum(rng.normal(size=(300, 40)) - 1, 0),
    "all but one alike": lambda rng: np.concatenate([np.zeros((299, 40)), np.ones((1, 40))]),
    "chunks of several blocks": lambda rng: rng.normal(size=(500, 300)),
    "one dimension": lambda rng: rng.normal(size=(300, 1)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("neighbors", [1, 3, 7])
def test_distances_on_the_grid_are_exact(case: str, neighbors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = CASES[case](np.random.default_rng(0))
    expected = np.sort(cdist(rows, rows, "chebyshev"), axis=1)[:, neighbors]
    monkeypatch.setattr(chebyshev, "SMALL_WORK", 0)
    assert (chebyshev.neighbor_distances(rows, neighbors) == expected).all()
