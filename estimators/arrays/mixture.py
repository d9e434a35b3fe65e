"""A Gaussian mixture with full covariances, by expectation maximisation from a k-means start."""

from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-3
ITERATIONS = 100
SMALLEST_REGULARISATION = 1e-6
# A responsibility below the first, or a log-density so far below the best as the second, is nil in double precision.
NIL_RESPONSIBILITY = 1e-18
NIL_LOG_RATIO = 80.0


@dataclass(frozen=True)
class Mixture:
    """Attributes:
    responsibilities: (N, K), rows summing to one.
    iterations: how many steps were taken.
    converged: whether the log-likelihood per sample changed by less than ``TOLERANCE`` in the last.
    regularisation: what was added to the diagonal of each covariance.
    """

    responsibilities: np.ndarray
    iterations: int
    converged: bool
    regularisation: float


def fit_responsibilities(rows: np.ndarray, components: int, *, seed: int) -> Mixture:
    """Fit ``components`` Gaussians to rows (N, d) as scikit-learn's ``GaussianMixture`` does; who belongs to which.

    The numbers are the same to rounding, but work that cannot change them is left out: in many dimensions nearly every
    sample belongs to one component, so a covariance is made of the samples that have a share in it, and a density is
    given up as soon as its first quarter of the dimensions shows that it is nil. Where rounding makes a covariance
    singular, at which scikit-learn stops, the regularisation is raised tenfold.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    start = KMeans(components, n_init=1, random_state=np.random.RandomState(seed)).fit(rows).labels_
    regularisation = SMALLEST_REGULARISATION
    # Thousands of small products lose far more by waking threads than they gain.
    with threadpool_limits(1):
        while True:
            try:
                return _maximise(rows, np.eye(components)[start], regularisation)
            except np.linalg.LinAlgError:
                regularisation *= 10


def _maximise(rows: np.ndarray, responsibilities: np.ndarray, regularisation: float) -> Mixture:
    likelihood, converged, iterations = -np.inf, False, 0
    while not converged and iterations < ITERATIONS:
        previous = likelihood
        likelihood, responsibilities = _step(rows, responsibilities, regularisation)
        converged, iterations = abs(likelihood - previous) < TOLERANCE, iterations + 1
    responsibilities = _step(rows, responsibilities, regularisation)[1]
    return Mixture(responsibilities, iterations, converged, regularisation)


@dataclass(frozen=True)
class _Gaussian:
    mean: np.ndarray
    factor: np.ndarray
    # ln of the weight and of the density at the mean.
    peak: float

    def whiten(self, rows: np.ndarray, first: int, last: int, known: np.ndarray | None = None) -> np.ndarray:
        """Dimensions first..last of L^-1 (x - mean), (last - first, n), given those before ``first``."""
        from scipy.linalg import solve_triangular

        right = (rows[:, first:last] - self.mean[first:last]).T
        if known is not None:
            right -= self.factor[first:last, :first] @ known
        return np.asarray(solve_triangular(self.factor[first:last, first:last], right, lower=True, check_finite=False))


def _gaussian(rows: np.ndarray, shares: np.ndarray, regularisation: float) -> _Gaussian:
    """The weighted Gaussian of the rows that have a share, its weight being theirs among all."""
    from scipy.linalg import cholesky

    owned = np.flatnonzero(shares > NIL_RESPONSIBILITY)
    shares_owned = shares[owned]
    total = shares_owned.sum() + 10 * np.finfo(float).eps
    mean = shares_owned @ rows[owned] / total
    centred = rows[owned] - mean
    covariance = (shares_owned * centred.T) @ centred / total
    covariance.flat[:: len(mean) + 1] += regularisation
    factor = cholesky(covariance, lower=True, check_finite=False, overwrite_a=True)
    log_determinant = np.sum(np.log(np.diag(factor)))
    peak = np.log(total / len(rows)) - log_determinant - 0.5 * len(mean) * np.log(2 * np.pi)
    return _Gaussian(mean, factor, float(peak))


def _step(rows: np.ndarray, responsibilities: np.ndarray, regularisation: float) -> tuple[float, np.ndarray]:
    """Fit the components to the responsibilities; the mean log-likelihood and the responsibilities that follow.

    The components are fitted twice, so that their covariances need not be kept.
    """
    samples, components = responsibilities.shape
    dimensions = rows.shape[1]
    quarter = max(1, dimensions // 4)
    owner = np.argmax(responsibilities, axis=1)
    best = np.full(samples, -np.inf)
    for k in range(components):
        gaussian = _gaussian(rows, responsibilities[:, k], regularisation)
        own = np.flatnonzero(owner == k)
        best[own] = gaussian.peak - 0.5 * np.sum(gaussian.whiten(rows[own], 0, dimensions) ** 2, axis=0)
    logs = np.full((samples, components), -np.inf)
    for k in range(components):
        gaussian = _gaussian(rows, responsibilities[:, k], regularisation)
        head = gaussian.whiten(rows, 0, quarter)
        upper = gaussian.peak - 0.5 * np.sum(head**2, axis=0)
        near = np.flatnonzero(upper > best - NIL_LOG_RATIO)
        tail = gaussian.whiten(rows[near], quarter, dimensions, head[:, near])
        logs[near, k] = upper[near] - 0.5 * np.sum(tail**2, axis=0)
    highest = logs.max(axis=1)
    likelihoods = highest + np.log(np.sum(np.exp(logs - highest[:, None]), axis=1))
    return float(np.mean(likelihoods)), np.exp(logs - likelihoods[:, None])
