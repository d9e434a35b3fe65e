"""A shrunk linear discriminant: how surely it assigns each sample to its own class. What SFDA, LDA and PED share."""

import math

from array_api_compat import array_namespace, device

from estimators.arrays.classes import ByClass, class_deviations
from estimators.arrays.linalg import cholesky, mixed_with_identity, solve_factored, unit_rows
from estimators.arrays.validation import Array, check_choice, check_features
from estimators.score import CannotBeComputed, Score

SMALLEST_SHRINKAGE = 1e-10
SATURATED = 1e-6
SCALES = ("none", "rows")


def rescaled(features: Array, scale: str) -> Array:
    """Checked features as they are, or with rows of length one."""
    check_choice("scale", scale, SCALES)
    return unit_rows(features) if scale == "rows" else features


def discriminable(features: Array, labels: Array, scale: str = "none") -> tuple[ByClass, Array]:
    """Deviations from the class means, by class, and (C, D) the class means less the mean of all.

    Raises:
        InvalidEvidence: wrong shapes, NaN. CannotBeComputed: there is one class.
    """
    grouped, centres = class_deviations(rescaled(check_features(features, convert=scale != "none"), scale), labels)
    if len(grouped.classes) < 2:
        raise CannotBeComputed("a discriminant needs at least two classes; there is one")
    return grouped, centres


def within_scatter(grouped: ByClass) -> Array:
    """(D, D) ``S_w = Σ_c p_c Cov_c`` with population covariances, from deviations."""
    return (array_namespace(grouped.rows).matrix_transpose(grouped.rows) @ grouped.rows) / grouped.rows.shape[0]


def fisher_shrinkage(grouped: ByClass) -> tuple[float, Array]:
    """``s = max(exp(-5 λ), 1e-10)`` and S_w, λ being the largest eigenvalue of S_w after six power steps.

    The steps start from the row sums; so few of them give a λ slightly too low, which is part of the definition.
    """
    scatter = within_scatter(grouped)
    xp = array_namespace(scatter)
    if not bool(xp.linalg.trace(scatter) > 0):
        raise CannotBeComputed("the samples of each class are all alike, so there is no scatter inside the classes")
    vector = previous = xp.sum(scatter, axis=1)
    for _ in range(6):
        image = scatter @ vector
        length = xp.linalg.vector_norm(image)
        if not bool(length > 0):
            return 1.0, scatter
        previous, vector = vector, image / length
    eigenvalue = float(vector @ (scatter @ previous))
    return max(math.exp(-5 * eigenvalue), SMALLEST_SHRINKAGE), scatter


def log_posteriors(grouped: ByClass, centres: Array, scatter: Array, shrinkage: float) -> Array:
    """(N, C) ``ln p(c | x) = ln softmax_c(x^T S^-1 μ_c - 1/2 μ_c^T S^-1 μ_c + ln p_c)``,
    with ``S = (1 - s) S_w + s tr(S_w)/D I``."""
    xp = array_namespace(scatter)
    ridge = shrinkage * float(xp.linalg.trace(scatter)) / scatter.shape[0]
    factor = cholesky(mixed_with_identity(scatter, 1 - shrinkage, ridge), overwrite=True)
    if factor is None:
        raise CannotBeComputed("the scatter inside the classes is singular to rounding")
    return log_softmax(grouped, centres, solve_factored(factor, xp.matrix_transpose(centres)))


def log_softmax(grouped: ByClass, centres: Array, directions: Array) -> Array:
    """(N, C) ``ln softmax_c(x^T v_c - 1/2 μ_c^T v_c + ln p_c)`` for directions v (D, C)."""
    xp = array_namespace(directions)
    counts = xp.asarray(grouped.counts, dtype=directions.dtype, device=device(directions))
    of_centres = centres @ directions
    offsets = xp.log(counts / xp.sum(counts)) - 0.5 * xp.linalg.diagonal(of_centres)
    values = grouped.rows @ directions + grouped.spread(of_centres + offsets)
    values -= xp.max(values, axis=1, keepdims=True)
    values -= xp.log(xp.sum(xp.exp(values), axis=1, keepdims=True))
    return values


def of_own_class(values: Array, grouped: ByClass) -> Array:
    """(N,) the entry of each row's class in (N, C)."""
    xp = array_namespace(values)
    return xp.concat([values[part, c] for c, part in enumerate(grouped.slices())])


def score_and_shares(logs: Array, grouped: ByClass, details: dict[str, float]) -> tuple[Score, Array]:
    """The mean posterior of the true class, and (N,) what each sample adds to it, from (N,) log posteriors."""
    xp = array_namespace(logs)
    samples, dimensions = (int(n) for n in grouped.rows.shape)
    posteriors = xp.exp(logs)
    value = float(xp.mean(posteriors))
    warnings = []
    if 1 - value < SATURATED:
        warnings.append(
            "saturated: every sample is assigned to its class with certainty, so models cannot be told apart"
        )
    if samples - len(grouped.classes) < dimensions:
        warnings.append(f"few samples: {samples} samples for {dimensions} dimensions; the classes separate by chance")
    details = {"samples": samples, "dimensions": dimensions, "classes": len(grouped.classes), **details}
    return Score(value, tuple(warnings), details), grouped.restore(posteriors) / samples
