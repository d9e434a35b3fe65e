"""SFDA and the LDA posterior: how surely a shrunk linear discriminant assigns each sample to its own class."""

import math

from array_api_compat import array_namespace, device

from estimators.arrays.classes import ByClass, class_deviations
from estimators.arrays.linalg import cholesky, mixed_with_identity, solve_factored
from estimators.arrays.validation import Array, check_compat, check_features
from estimators.score import CannotBeComputed, Score

SMALLEST_SHRINKAGE = 1e-10
SATURATED = 1e-6


def sfda(*, features: Array, labels: Array, compat: str | None = None) -> Score:
    """Self-challenging Fisher discriminant analysis: the mean posterior of the true class, ``(1/N) Σ_i p(y_i | x'_i)``.

    A discriminant is fitted (`posteriors`), each sample is drawn towards the other classes the less sure it is,

        q_i  = softmax(p(· | x_i))_{y_i}
        x'_i = q_i x_i + (1 - q_i) (mean of the means of the other classes),

    and the discriminant is fitted again on x' with the shrinkage of the first fit.
    Shao et al., "Not All Models Are Equal: Predicting Model Transferability in a Self-challenging Fisher Space",
    ECCV 2022, sec. 4.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        compat: ``"author"`` gives the same number; the paper writes the mean of ln p, which is in the details.

    Returns:
        Score in [0, 1]. Details: samples, dimensions, classes, shrinkage, first_mean_posterior, mean_log_posterior.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: fewer than two classes, or no variation inside the classes.
    """
    return sfda_and_shares(features=features, labels=labels, compat=compat)[0]


def sfda_and_shares(*, features: Array, labels: Array, compat: str | None = None) -> tuple[Score, Array]:
    """The Score of `sfda`, and (N,) what each sample adds to it, the fit being what it is."""
    check_compat(compat)
    grouped, centres = _discriminable(features, labels)
    xp = array_namespace(centres)
    shrinkage, scatter = fisher_shrinkage(grouped)
    probabilities = xp.exp(log_posteriors(grouped, centres, scatter, shrinkage))
    first = _of_own_class(probabilities, grouped)
    confidence = xp.exp(first) / xp.sum(xp.exp(probabilities), axis=1)
    challenged = challenge(grouped, centres, confidence)
    logs = log_posteriors(grouped, challenged, within_scatter(grouped), shrinkage)
    logs = _of_own_class(logs, grouped)
    details = {
        "shrinkage": shrinkage,
        "first_mean_posterior": float(xp.mean(first)),
        "mean_log_posterior": float(xp.mean(logs)),
    }
    return _score_and_shares(logs, grouped, details)


def lda(*, features: Array, labels: Array, compat: str | None = None) -> Score:
    """Mean posterior of the true class under a shrunk linear discriminant, ``(1/N) Σ_i p(y_i | x_i)``.

    The first fit of `sfda`. Gholami et al., "ETran: Energy-Based Transferability Estimation", ICCV 2023, sec. 3.3.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        compat: ``"author"`` gives the number of ETran's program, in which the whitening has no effect: the covariance
            is the identity.

    Returns:
        Score in [0, 1]. Details: samples, dimensions, classes, shrinkage.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: fewer than two classes, or no variation inside the classes.
    """
    return lda_and_shares(features=features, labels=labels, compat=compat)[0]


def lda_and_shares(*, features: Array, labels: Array, compat: str | None = None) -> tuple[Score, Array]:
    """The Score of `lda`, and (N,) what each sample adds to it, the fit being what it is."""
    author = check_compat(compat)
    grouped, centres = _discriminable(features, labels)
    xp = array_namespace(centres)
    if author:
        shrinkage, logs = 1.0, _log_softmax(grouped, centres, xp.matrix_transpose(centres))
    else:
        shrinkage, scatter = fisher_shrinkage(grouped)
        logs = log_posteriors(grouped, centres, scatter, shrinkage)
    return _score_and_shares(_of_own_class(logs, grouped), grouped, {"shrinkage": shrinkage})


def _discriminable(features: Array, labels: Array) -> tuple[ByClass, Array]:
    grouped, centres = class_deviations(check_features(features), labels)
    if len(grouped.classes) < 2:
        raise CannotBeComputed("a discriminant needs at least two classes; there is one")
    return grouped, centres


def challenge(grouped: ByClass, centres: Array, confidence: Array) -> Array:
    """Draw samples towards the other classes: rows become deviations from the new class means, which are returned."""
    xp = array_namespace(centres)
    others = (xp.sum(centres, axis=0) - centres) / (centres.shape[0] - 1)
    means = []
    for c, part in enumerate(grouped.slices()):
        q = confidence[part][:, None]
        mixed = q * (grouped.rows[part, :] + centres[c, :]) + (1 - q) * others[c, :]
        means.append(xp.mean(mixed, axis=0))
        grouped.rows[part, :] = mixed - means[-1]
    return xp.stack(means)


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
    return _log_softmax(grouped, centres, solve_factored(factor, xp.matrix_transpose(centres)))


def _log_softmax(grouped: ByClass, centres: Array, directions: Array) -> Array:
    xp = array_namespace(directions)
    counts = xp.asarray(grouped.counts, dtype=directions.dtype, device=device(directions))
    of_centres = centres @ directions
    offsets = xp.log(counts / xp.sum(counts)) - 0.5 * xp.linalg.diagonal(of_centres)
    values = grouped.rows @ directions + grouped.spread(of_centres + offsets)
    values -= xp.max(values, axis=1, keepdims=True)
    values -= xp.log(xp.sum(xp.exp(values), axis=1, keepdims=True))
    return values


def _of_own_class(values: Array, grouped: ByClass) -> Array:
    """(N,) the entry of each row's class in (N, C)."""
    xp = array_namespace(values)
    return xp.concat([values[part, c] for c, part in enumerate(grouped.slices())])


def _score_and_shares(logs: Array, grouped: ByClass, details: dict[str, float]) -> tuple[Score, Array]:
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
