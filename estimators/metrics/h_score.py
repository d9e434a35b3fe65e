"""H-score: how much of the features' variation is variation between classes, direction by direction."""

from collections.abc import Callable

from array_api_compat import array_namespace, device

from estimators.arrays.classes import ByClass, centred_by_class
from estimators.arrays.linalg import SMALLEST_PIVOT, cholesky, mixed_with_identity, rank_tolerance, solve_factored
from estimators.arrays.validation import Array, check_compat, check_features
from estimators.metric import COMPAT, Linear, Metric
from estimators.score import CannotBeComputed, Score

Shrinkage = Callable[[ByClass, Array], float]

# A dimension whose deviation is below this share of its mean is constant.
ROUNDING = 1e-13


def h_score(*, features: Array, labels: Array, compat: str | None = None) -> Score:
    """``tr(cov(X)^+ cov(μ_y))``: 0 when the class means coincide, at most C - 1.

    With X̃ the centred features, S = X̃^T X̃ and the rows of M the centred class means times √n_c, the score is
    tr(M S^+ M^T); factors 1/(N - 1) cancel.
    Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019, def. 2.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        compat: ``"author"`` gives the same number.

    Returns:
        Score without unit. Details: samples, dimensions, classes, rank.

    Raises:
        InvalidEvidence: wrong shapes, NaN, fewer than two samples.
        CannotBeComputed: all samples are alike.
    """
    check_compat(compat)
    features = check_features(features, minimum_samples=2, convert=False)
    samples, dimensions = (int(n) for n in features.shape)
    grouped, mean = centred_by_class(features, labels)
    value, rank = explained_variation(grouped, mean)
    warnings = []
    if rank >= samples - 1:
        warnings.append(
            f"saturated: {samples} samples span no more than {dimensions} dimensions, so the score is the number of "
            "classes less one whatever the labels; take more samples, or the regularised H-score"
        )
    return Score(
        value,
        tuple(warnings),
        {"samples": samples, "dimensions": dimensions, "classes": len(grouped.classes), "rank": rank},
    )


def score_and_shares(*, features: Array, labels: Array, compat: str | None = None) -> tuple[Score, Array]:
    """The Score of `h_score`, and (N,) how fast it grows with each sample's weight."""
    return h_score(features=features, labels=labels, compat=compat), sample_gradients(features, labels)


def scatter_and_between(grouped: ByClass) -> tuple[Array, Array]:
    """S (D, D) and M (C, D) of centred rows."""
    xp = array_namespace(grouped.rows)
    counts = xp.asarray(grouped.counts, dtype=grouped.rows.dtype, device=device(grouped.rows))
    return xp.matrix_transpose(grouped.rows) @ grouped.rows, grouped.means() * xp.sqrt(counts)[:, None]


def explained_variation(grouped: ByClass, mean: Array) -> tuple[float, int]:
    """tr(M S^+ M^T) and the rank of S, of centred rows, from which ``mean`` (D,) was taken away."""
    xp = array_namespace(mean)
    samples, dimensions = grouped.rows.shape
    if samples - 1 <= dimensions:
        return _explained_variation_of_few(grouped, mean)
    scatter, between = scatter_and_between(grouped)
    scales = xp.sqrt(xp.linalg.diagonal(scatter))
    varying = _varying(scales, samples, mean)
    if not bool(xp.all(varying)):
        scatter, between, scales = scatter[varying, :][:, varying], between[:, varying], scales[varying]
    factor = cholesky(scatter, overwrite=True)
    # Pivots of the correlations, that is, and not of the covariances: columns may be of unlike size.
    if factor is not None and bool(xp.min(xp.linalg.diagonal(factor) / scales) ** 2 > SMALLEST_PIVOT):
        solved = solve_factored(factor, xp.matrix_transpose(between))
        return float(xp.sum(xp.matrix_transpose(between) * solved)), int(scales.shape[0])
    rows = grouped.rows[:, varying] / scales
    eigenvalues, vectors = xp.linalg.eigh(xp.matrix_transpose(rows) @ rows)
    kept = eigenvalues > rank_tolerance(grouped.rows.shape, rows.dtype) * eigenvalues[-1]
    rotated = ((between / scales) @ vectors[:, kept]) ** 2 / eigenvalues[kept]
    return float(xp.sum(rotated)), int(rotated.shape[1])


def _varying(scales: Array, samples: int, mean: Array) -> Array:
    """(D,) whether a dimension of this length (D,) is more than rounding about its mean."""
    varying = scales > ROUNDING * samples**0.5 * array_namespace(mean).abs(mean)
    if not bool(array_namespace(mean).any(varying)):
        raise CannotBeComputed("all samples have the same features")
    return varying


def _explained_variation_of_few(grouped: ByClass, mean: Array) -> tuple[float, int]:
    """The same for N <= D + 1, from the eigenvectors u of X̃ X̃^T: Σ_c Σ_j (Σ_{i in c} u_ij)² / n_c."""
    xp = array_namespace(mean)
    scales = xp.linalg.vector_norm(grouped.rows, axis=0)
    varying = _varying(scales, grouped.rows.shape[0], mean)
    rows = grouped.rows[:, varying] / scales[varying]
    eigenvalues, vectors = xp.linalg.eigh(rows @ xp.matrix_transpose(rows))
    vectors = vectors[:, eigenvalues > rank_tolerance(rows.shape, rows.dtype) * eigenvalues[-1]]
    sums = xp.stack([xp.sum(vectors[part, :], axis=0) / (part.stop - part.start) ** 0.5 for part in grouped.slices()])
    return float(xp.sum(sums**2)), int(vectors.shape[1])


def sample_gradients(features: Array, labels: Array, *, shrink: Shrinkage | None = None) -> Array:
    """(N,) how fast the H-score grows with each sample's weight, with the shrinkage held fixed, if there is any.

    ``shrink`` gives the shrinkage a from the centred rows and their covariance.

    With A = S^+ (or (1 - a) Σ_a^-1 / N), B = M^T M, x the centred sample and z its distance from its class mean, the
    weight adds x x^T to S and x x^T - z z^T to B:  dH/dw = x^T A x - z^T A z - x^T A B A x.
    """
    features = check_features(features, minimum_samples=2, convert=False)
    xp = array_namespace(features)
    samples, dimensions = features.shape
    grouped, _ = centred_by_class(features, labels)
    centres = grouped.means()
    scatter, between = scatter_and_between(grouped)
    # A hair of the mean variance stands in for the pseudo-inverse where dimensions are dead or copied.
    strength, share = 1.0, 1e-12
    if shrink is not None:
        share = shrink(grouped, scatter / samples)
        strength = 1 - share
    ridge = share * float(xp.linalg.trace(scatter)) / dimensions
    factor = cholesky(mixed_with_identity(scatter, strength, ridge), overwrite=True)
    if factor is None:
        raise CannotBeComputed("the covariance is singular to rounding")
    of_means = solve_factored(factor, xp.matrix_transpose(centres))
    explained = xp.sum((grouped.rows @ solve_factored(factor, xp.matrix_transpose(between))) ** 2, axis=1)
    # x^T A x - (x - m)^T A (x - m) = 2 x^T A m - m^T A m
    of_centres = xp.linalg.diagonal(centres @ of_means)
    towards = grouped.rows @ of_means
    within = xp.concat([2 * towards[part, c] - of_centres[c] for c, part in enumerate(grouped.slices())])
    return grouped.restore(strength * (within - strength * explained))


METRIC = Metric(
    name="h_score",
    title="H-score",
    required_evidence=frozenset({"features", "labels"}),
    range=(0.0, None),
    unit="",
    measures="How much of the features' variation lies between classes, each direction counted at its own scale.",
    formula="tr(cov(X)⁺ cov(μ_y))",
    interpretation="0 means that class means coincide; C - 1 that the classes are linearly separated without overlap.",
    caveats="Too high when D is close to N, and exactly C - 1 for N <= D: use the regularised H-score there.",
    cost="O(N D² + D³)",
    citation="Bao et al., An Information-Theoretic Approach to Transferability in Task Transfer Learning, ICIP 2019",
    function=h_score,
    resampling=Linear(score_and_shares),
    parameters={"compat": COMPAT},
)
