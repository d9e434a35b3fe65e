"""The few matrix steps that the metrics share: symmetric products, solves and log-determinants."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array, is_torch_array

from estimators.arrays.validation import Array
from estimators.score import CannotBeComputed

# A Cholesky pivot of a correlation matrix below this says that a column is a combination of others to rounding.
SMALLEST_PIVOT = 1e-12
LAPACK_BLOCK = 64


def cholesky(matrix: Array, *, overwrite: bool = False) -> Array | None:
    """The lower factor of a symmetric positive definite matrix, or None if it is not one.

    What lies above the diagonal of the answer means nothing; ``overwrite`` lets the factor take the matrix's place.
    """
    xp = array_namespace(matrix)
    try:
        if is_numpy_array(matrix):
            from scipy.linalg import cho_factor

            # The transpose is the same matrix in the order of columns, which LAPACK takes without a copy.
            factor, _ = cho_factor(matrix.T, lower=True, overwrite_a=overwrite, check_finite=False)
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
    if is_torch_array(factor):
        return xp.cholesky_solve(right, factor)
    return xp.linalg.solve(xp.matrix_transpose(factor), xp.linalg.solve(factor, right))


def mixed_with_identity(matrix: Array, strength: float, ridge: float) -> Array:
    """``strength * matrix + ridge * I``, a new array."""
    xp = array_namespace(matrix)
    mixed = strength * matrix
    xp.reshape(mixed, (-1,))[:: matrix.shape[0] + 1] += ridge
    return mixed


def log_determinant(matrix: Array) -> float:
    """ln det of a symmetric positive definite matrix."""
    xp = array_namespace(matrix)
    factor = cholesky(matrix)
    if factor is not None:
        return 2.0 * float(xp.sum(xp.log(xp.linalg.diagonal(factor))))
    return float(xp.linalg.slogdet(matrix)[1])


def eigenvalues_and_projections(matrix: Array, columns: Array) -> tuple[Array, Array]:
    """Eigenvalues (n,) in rising order of a symmetric matrix = U diag(σ) U^T, and U^T columns (n, K).

    On the CPU without the vectors U: with the tridiagonal form Q T Q^T and T = V diag(σ) V^T, U^T = V^T Q^T, and Q is
    applied to the columns as it comes, in reflections.
    """
    if not is_numpy_array(matrix):
        xp = array_namespace(matrix)
        values, vectors = xp.linalg.eigh(matrix)
        return values, xp.matrix_transpose(vectors) @ columns
    from scipy.linalg.lapack import dormqr, dstevd, dsytrd

    size, width = columns.shape
    if size == 1:
        return matrix[0], columns
    reflections, diagonal, beside, scales, _ = dsytrd(matrix.T, lower=1, lwork=LAPACK_BLOCK * size)
    values, vectors, failed = dstevd(diagonal, beside)
    if failed:
        raise CannotBeComputed("the eigenvalues did not converge")
    # The first row is its own reflection.
    turned = np.array(columns, order="F")
    turned[1:], _, _ = dormqr("L", "T", reflections[1:, :-1], scales, turned[1:], lwork=LAPACK_BLOCK * width)
    return values, vectors.T @ turned


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
    values, vectors = xp.linalg.eigh(gram)
    values, vectors = values[size - count :], vectors[:, size - count :]
    if not bool(values[-1] > 0):
        raise CannotBeComputed("all samples have the same features")
    kept = values > rank_tolerance(centred.shape, centred.dtype) * values[-1]
    values, vectors = xp.flip(values[kept]), xp.flip(vectors[:, kept], axis=1)
    if wide:
        vectors = (transposed @ vectors) / xp.sqrt(values)
    return values / max(1, samples - 1), vectors


def unit_rows(rows: Array) -> Array:
    """(N, D) each row divided by its length; a row of zeros stays zero."""
    xp = array_namespace(rows)
    lengths = xp.linalg.vector_norm(rows, axis=1, keepdims=True)
    return rows / xp.where(lengths > 0, lengths, xp.ones_like(lengths))


def project(features: Array, components: int) -> Array:
    """(N, k) the features in their first principal components, k being at most ``components``."""
    xp = array_namespace(features)
    centred = features - xp.mean(features, axis=0)
    return centred @ principal_axes(centred, components)[1]
