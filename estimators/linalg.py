"""The few matrix steps that the metrics share: symmetric products, solves and log-determinants."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from estimators.validation import Array

# A Cholesky pivot of a correlation matrix below this says that a column is a combination of others to rounding.
SMALLEST_PIVOT = 1e-12


def cholesky(matrix: Array) -> Array | None:
    """The lower factor of a symmetric positive definite matrix, or None if it is not one."""
    xp = array_namespace(matrix)
    try:
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


def rank_tolerance(shape: tuple[int, ...], dtype: Any) -> float:
    """Eigenvalues of a Gram matrix below this share of the largest are rounding."""
    return max(shape) * float(np.finfo(np.float32 if "float32" in str(dtype) else np.float64).eps)
