"""A full-covariance Gaussian mixture, fitted as scikit-learn's ``GaussianMixture`` fits it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mixture:
    responsibilities: np.ndarray
    iterations: int
    converged: bool
    regularisation: float


def fit_responsibilities(rows: np.ndarray, components: int, *, seed: int) -> Mixture:
    from sklearn.mixture import GaussianMixture

    regularisation = 1e-6
    mixture = GaussianMixture(components, random_state=seed, reg_covar=regularisation).fit(rows)
    return Mixture(mixture.predict_proba(rows), mixture.n_iter_, mixture.converged_, regularisation)
