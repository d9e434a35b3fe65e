"""The few matrix steps that the metrics share: symmetric products, solves and log-determinants."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from estimators.score import CannotBeComputed
from estimators.validation import Array

# A Cholesky pivot of a correlation matrix below this says that a column is a combination of others to rounding.
SMALLEST_PIVOT = 1e-12


def cholesky(matrix: Array) -> Array | None:
    """The lower factor of a symmetric positive definite matrix, or None if it is not one."""
    xp = array_namespace(matrix)
    try:
        if is_numpy_array(matrix):
            from scipy.linalg import cholesky as factorise

            # The transpose is the same matrix in the order of columns, which LAPACK takes without a copy.
            factor = factorise(matrix.T, lower=True, check_finite=False)
        else:
            factor = xp.linalg.cholesky(matrix)
    # torch's error is a RuntimeError, NumPy's a ValueError.
    except (np.linalg.LinAlgError, RuntimeError):
        return None
    return factor if bool(xp.all(xp.isfinite(xp.linalg.diagonal(factor)))) else None


def solve_factored(factor: Array, right: Array) -> Array:
    """Solve ``L L^T x = right`` with the lower factor L."""
    if is_numpy_array(factor):
        from scipy.linalg import cho_solve

        return cho_solve((factor, True), right, check_finite=False)
    xp = array_namespace(factor)
    return xp.linalg.solve(xp.matrix_transpose(factor), xp.linalg.solve(factor, right))


def log_determinant(matrix: Array) -> float:
    """ln det of a symmetric positive definite matrix."""
    xp = array_namespace(matrix)
    factor = cholesky(matrix)
    if factor is not None:
        return 2.0 * float(xp.sum(xp.log(xp.linalg.diagonal(factor))))
    return float(xp.linalg.slogdet(matrix)[1])


def symmetric_eigen(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues in rising order, and eigenvectors in columns, of a symmetric matrix.

    On the CPU in one thread: two gain a third on an idle machine and take seven times as long on a busy one.
    """
    xp = array_namespace(matrix)
    if not is_numpy_array(matrix):
        values, vectors = xp.linalg.eigh(matrix)
        return values, vectors
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        values, vectors = xp.linalg.eigh(matrix)
    return values, vectors


def rank_tolerance(shape: tuple[int, ...], dtype: Any) -> float:
    """Eigenvalues of a Gram matrix below this share of the largest are rounding."""
    return max(shape) * float(np.finfo(np.float32 if "float32" in str(dtype) else np.float64).eps)


def principal_axes(centred: Array, count: int | None = None) -> tuple[Array, Array]:
    """Variances (k,) in falling order, over N - 1, and unit axes (D, k) of centred rows (N, D).

    At most min(N, D) axes, and none whose variance is rounding; from the smaller Gram matrix.
    """
    xp = array_namespace(centred)
    samples, dimensions = centred.shape
    wide = samples < dimensions
    transposed = xp.matrix_transpose(centred)
    gram = centred @ transposed if wide else transposed @ centred
    size = gram.shape[0]
    count = size if count is None else min(count, size)
    values, vectors = symmetric_eigen(gram)
    values, vectors = values[size - count :], vectors[:, size - count :]
    if not bool(values[-1] > 0):
        raise CannotBeComputed("all samples have the same features")
    kept = values > rank_tolerance(centred.shape, centred.dtype) * values[-1]
    values, vectors = xp.flip(values[kept]), xp.flip(vectors[:, kept], axis=1)
    if wide:
        vectors = (transposed @ vectors) / xp.sqrt(values)
    return values / max(1, samples - 1), vectors


def project(features: Array, components: int) -> Array:
    """(N, k) the features in their first principal components, k being at most ``components``."""
    xp = array_namespace(features)
    centred = features - xp.mean(features, axis=0)
    return centred @ principal_axes(centred, components)[1]
