"""LogME: the evidence of a Bayesian linear model that predicts the labels from the features."""

import math
from collections.abc import Callable
from typing import TypeAlias

from array_api_compat import array_namespace, device

from estimators.arrays.classes import label_slots
from estimators.arrays.linalg import eigenvalues_and_projections, rank_tolerance
from estimators.arrays.validation import (
    Array,
    check_compat,
    check_features,
    check_labels,
    check_targets,
    row_blocks,
    working_dtype,
    working_rows,
)
from estimators.metric import COMPAT, Linear, Metric
from estimators.score import CannotBeComputed, Score

# The targets (n, K) of a slice of the samples.
Columns: TypeAlias = Callable[[slice], Array]

# ln(λ/σ_max) is searched between minus and plus this; beyond it the prior or the noise is nil to rounding.
SEARCH_RANGE = 27.6
SEARCH_POINTS = 200
BISECTIONS = 45


def logme(
    *, features: Array, labels: Array | None = None, targets: Array | None = None, compat: str | None = None
) -> Score:
    """Log maximum evidence per sample, averaged over the targets.

    For one target t (a one-hot column of the labels, or a column of ``targets``), w ~ N(0, I/α) and
    t | w ~ N(X w, I/β). With the eigenvalues σ_j of X^T X, x_j = u_j^T t and λ = α/β, the evidence is

        L(α, β) = D/2 ln α + N/2 ln β - 1/2 Σ_{j=1..D} ln(α + β σ_j) - β/2 R - α/2 M - N/2 ln 2π
        R = |t|² - Σ x_j² + Σ x_j² λ²/(λ + σ_j)²,   M = Σ σ_j x_j² / (λ + σ_j)²

    and at the best β for a given λ it depends on λ alone; its maximum is found to rounding:

        L(λ) = -N/2 ln(2πe S/N) - 1/2 Σ_j ln(1 + σ_j/λ),   S = |t|² - Σ x_j² σ_j/(λ + σ_j)

    The features are not centred and there is no intercept.
    You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021, eq. 2 and alg. 1.

    Args:
        features: (N, D).
        labels: (N,) classes; or
        targets: (N,) or (N, K) real numbers: regression, or 0/1 for multi-label.
        compat: ``"author"`` gives the number of the authors' program: at most 11 fixed-point steps from α = β = 1 with
            1e-5 in the denominators, and, where D exceeds the number k of singular values, a score too high by
            (D - k) ln α / 2N, because its sum of logarithms stops at k.

    Returns:
        Score in nats per sample. Details: samples, dimensions, targets, rank, evidence (one per target).

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        ValueError: not exactly one of labels and targets.
        CannotBeComputed: all features are zero, or all of a target's values are.
    """
    author = check_compat(compat)
    features = check_features(features, convert=False)
    xp = array_namespace(features)
    samples, dimensions = (int(n) for n in features.shape)
    if (labels is None) == (targets is None):
        raise ValueError("logme takes either labels or targets")
    if labels is not None:
        columns = _one_hot(features, labels, slots=author)
    else:
        columns = check_targets(targets, length=samples, like=working_rows(features, slice(1))).__getitem__
    squares = sum(xp.sum(columns(part) ** 2, axis=0) for part in row_blocks(features))
    if not author and not bool(xp.all(squares > 0)):
        raise CannotBeComputed("a target is zero for every sample, so its evidence has no bound; leave it out")
    if author:
        everything = slice(samples)
        eigenvalues, projections = _author_spectrum(working_rows(features, everything), columns(everything))
        evidence = _author_evidence(eigenvalues, projections, squares, samples, dimensions)
    else:
        eigenvalues, projections = _spectrum(features, columns)
        evidence, _ = _maximum_evidence(eigenvalues, projections, squares, samples)
    rank = int(eigenvalues.shape[0])
    warnings = []
    if samples <= dimensions:
        warnings.append(f"few samples: {samples} samples for {dimensions} dimensions; the features can fit any labels")
    return Score(
        float(xp.mean(evidence)),
        tuple(warnings),
        {
            "samples": samples,
            "dimensions": dimensions,
            "targets": int(squares.shape[0]),
            "rank": rank,
            "evidence": [float(value) for value in evidence],
        },
    )


def score_and_shares(
    *, features: Array, labels: Array | None = None, targets: Array | None = None, compat: str | None = None
) -> tuple[Score, Array]:
    """The Score of `logme`, and (N,) how fast it grows with each sample's weight."""
    if targets is not None:
        raise CannotBeComputed("resampling is stratified by class, and regression targets have none")
    return logme(features=features, labels=labels, compat=compat), sample_gradients(features, labels)


def sample_gradients(features: Array, labels: Array) -> Array:
    """(N,) how fast the score of `logme` grows with each sample's weight.

    At the maximum α and β stay where they are, so that for one target, with m the mean of w,

        dL/dw_i = 1/2 ln(β/2π) - β/2 (t_i - x_i^T m)² - β/2 x_i^T (α I + β X^T X)^-1 x_i
    """
    features = check_features(features, convert=False)
    columns = _one_hot(features, labels)
    xp = array_namespace(features)
    samples, dimensions = features.shape
    gram, moments = _products(features, columns)
    eigenvalues, vectors = xp.linalg.eigh(gram)
    above = _above_rounding(eigenvalues, features)
    eigenvalues, vectors = eigenvalues[above], vectors[:, above]
    wide = samples < dimensions
    if wide:
        vectors *= xp.sqrt(eigenvalues)
    # With the features X V in the eigenvectors, or U σ^1/2 if there are fewer samples: (X V)^T T.
    turned = xp.matrix_transpose(vectors) @ moments
    projections = turned**2 / eigenvalues[:, None]
    squares = sum(xp.sum(columns(part) ** 2, axis=0) for part in row_blocks(features))
    _, log_ratio = _maximum_evidence(eigenvalues, projections, squares, samples)
    denominators = xp.exp(log_ratio)[None, :] * eigenvalues[-1] + eigenvalues[:, None]
    kept = projections * eigenvalues[:, None] / denominators
    noise = xp.clip(squares - xp.sum(kept, axis=0), min=1e-300) / samples
    gradients = []
    for part in row_blocks(features):
        rotated = vectors[part, :] if wide else working_rows(features, part) @ vectors
        residuals = columns(part) - rotated @ (turned / denominators)
        terms = xp.log(2 * math.pi * noise) + residuals**2 / noise + rotated**2 @ (1 / denominators)
        gradients.append(-0.5 * xp.mean(terms, axis=1) / samples)
    return xp.concat(gradients)


def _one_hot(features: Array, labels: Array, *, slots: bool = False) -> Columns:
    """One column per class; with ``slots`` one for each number up to the largest label."""
    xp = array_namespace(features)
    codes, classes = check_labels(labels, length=int(features.shape[0]), like=features)
    count = label_slots(classes) if slots else len(classes)
    numbers, dtype = xp.arange(count, device=device(features))[None, :], working_dtype(features)
    return lambda part: xp.astype(codes[part][:, None] == numbers, dtype)


def _products(features: Array, columns: Columns) -> tuple[Array, Array]:
    """X^T X (D, D) and X^T T (D, K); X X^T (N, N) and T (N, K) if there are fewer samples than dimensions."""
    xp = array_namespace(features)
    samples, dimensions = features.shape
    if samples < dimensions:
        rows = working_rows(features, slice(samples))
        return rows @ xp.matrix_transpose(rows), columns(slice(samples))
    gram, moments = 0.0, 0.0
    for part in row_blocks(features):
        rows = working_rows(features, part)
        gram = xp.matrix_transpose(rows) @ rows + gram
        moments = xp.matrix_transpose(rows) @ columns(part) + moments
    return gram, moments


def _spectrum(features: Array, columns: Columns) -> tuple[Array, Array]:
    """Eigenvalues σ (k,) of X^T X above rounding, and x² (k, K), from the smaller Gram matrix."""
    wide = features.shape[0] < features.shape[1]
    eigenvalues, projections = eigenvalues_and_projections(*_products(features, columns))
    above = _above_rounding(eigenvalues, features)
    eigenvalues, squared = eigenvalues[above], projections[above, :] ** 2
    return eigenvalues, squared if wide else squared / eigenvalues[:, None]


def _above_rounding(eigenvalues: Array, features: Array) -> Array:
    """(n,) which eigenvalues of the Gram matrix of features are more than rounding."""
    if not bool(eigenvalues[-1] > 0):
        raise CannotBeComputed("all features are zero")
    return eigenvalues > rank_tolerance(features.shape, eigenvalues.dtype) * eigenvalues[-1]


def _maximum_evidence(eigenvalues: Array, projections: Array, squares: Array, samples: int) -> tuple[Array, Array]:
    """(K,) max over λ of L(λ)/N, and ln(λ/σ_max) there: the best point of a grid, then bisection on the slope."""
    xp = array_namespace(eigenvalues)
    scaled = eigenvalues / eigenvalues[-1]
    outside = squares - xp.sum(projections, axis=0)
    # A target inside the span of the features leaves rounding here, of either sign, that would bound the search.
    outside = xp.where(outside > rank_tolerance((samples,), squares.dtype) * squares, outside, xp.zeros_like(outside))

    grid = xp.linspace(-SEARCH_RANGE, SEARCH_RANGE, SEARCH_POINTS, dtype=scaled.dtype, device=device(scaled))
    shrunk = xp.exp(grid)[:, None] / (xp.exp(grid)[:, None] + scaled[None, :])
    evidence = _evidence(outside + shrunk @ projections, xp.sum(xp.log(shrunk), axis=1)[:, None], samples)
    best = xp.take(grid, xp.argmax(evidence, axis=0))
    spacing = 2 * SEARCH_RANGE / (SEARCH_POINTS - 1)
    low, high = best - spacing, best + spacing
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        share = scaled[:, None] / (xp.exp(middle)[None, :] + scaled[:, None])
        residual = outside + xp.sum(projections * (1 - share), axis=0)
        fall = samples * xp.sum(projections * (1 - share) * share, axis=0) / residual
        rising = xp.sum(share, axis=0) > fall
        low, high = xp.where(rising, middle, low), xp.where(rising, high, middle)
    shrunk = xp.exp(low)[None, :] / (xp.exp(low)[None, :] + scaled[:, None])
    evidence = _evidence(outside + xp.sum(projections * shrunk, axis=0), xp.sum(xp.log(shrunk), axis=0), samples)
    return evidence, low


def _evidence(residual: Array, log_shrinkage: Array, samples: int) -> Array:
    xp = array_namespace(residual)
    return -0.5 * xp.log(2 * math.pi * math.e * residual / samples) + 0.5 * log_shrinkage / samples


def _author_spectrum(features: Array, columns: Array) -> tuple[Array, Array]:
    """σ and x² as the authors' program has them: from X^T X, dropping σ <= 1e-20, if N > D, else from X itself."""
    xp = array_namespace(features)
    transposed = xp.matrix_transpose(features)
    if features.shape[0] <= features.shape[1]:
        left, singular, _ = xp.linalg.svd(features, full_matrices=False)
        return singular**2, (xp.matrix_transpose(left) @ columns) ** 2
    # An all-zero column has σ = 0 exactly; a decomposition would leave rounding there.
    used = xp.any(features != 0, axis=0)
    transposed = transposed[used, :]
    eigenvalues, projections = eigenvalues_and_projections(
        transposed @ xp.matrix_transpose(transposed), transposed @ columns
    )
    eigenvalues = xp.abs(eigenvalues)
    kept = eigenvalues > 1e-20
    return eigenvalues[kept], projections[kept, :] ** 2 / eigenvalues[kept, None]


def _author_evidence(eigenvalues: Array, projections: Array, squares: Array, samples: int, dimensions: int) -> Array:
    """(K,) L/N after the authors' fixed-point iteration; every target starts from α = β = 1."""
    xp = array_namespace(eigenvalues)
    sigma = eigenvalues[:, None]
    alpha, beta = xp.ones_like(squares), xp.ones_like(squares)
    mean_square, residual = xp.zeros_like(squares), xp.zeros_like(squares)
    running = xp.ones_like(squares) > 0
    outside = squares - xp.sum(projections, axis=0)
    for _ in range(11):
        ratio = alpha / beta
        gamma = xp.sum(sigma / (sigma + ratio), axis=0)
        mean_square = xp.where(running, xp.sum(sigma * projections / (ratio + sigma) ** 2, axis=0), mean_square)
        residual = xp.where(running, xp.sum(projections / (1 + sigma / ratio) ** 2, axis=0) + outside, residual)
        alpha = xp.where(running, gamma / (mean_square + 1e-5), alpha)
        beta = xp.where(running, (samples - gamma) / (residual + 1e-5), beta)
        running = running & (xp.abs(alpha / beta - ratio) / ratio > 1e-3)
        if not bool(xp.any(running)):
            break
    evidence = (
        dimensions / 2 * xp.log(alpha)
        + samples / 2 * xp.log(beta)
        - 0.5 * xp.sum(xp.log(alpha + beta * sigma), axis=0)
        - beta / 2 * residual
        - alpha / 2 * mean_square
        - samples / 2 * math.log(2 * math.pi)
    )
    return evidence / samples


METRIC = Metric(
    name="logme",
    title="LogME",
    required_evidence=frozenset({"features", "labels"}),
    optional_evidence=frozenset({"targets"}),
    tasks=frozenset({"classification", "multi_label", "regression"}),
    range=(None, None),
    unit="nats per sample",
    measures="How probable the labels are under a linear model of the features whose weights are averaged out.",
    formula="mean over targets of max over α, β of ln p(t | X, α, β) / N",
    interpretation="Higher is better; often between -1 and 2. Values of different data sets cannot be compared.",
    caveats="With few samples for the dimensions all models look good; sensitive to uncentred features of large "
    "mean, because the linear model has no intercept.",
    cost="O(N D min(N, D) + min(N, D)³)",
    citation="You et al., LogME: Practical Assessment of Pre-trained Models for Transfer Learning, ICML 2021",
    function=logme,
    resampling=Linear(score_and_shares),
    parameters={"compat": COMPAT},
)
