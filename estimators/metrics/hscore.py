"""H-score: how much of the features' variation is variation between classes, direction by direction."""

from array_api_compat import array_namespace, device

from estimators.arrays.classes import ByClass, centred_by_class
from estimators.arrays.linalg import SMALLEST_PIVOT, cholesky, mixed_with_identity, rank_tolerance, solve_factored
from estimators.arrays.validation import Array, check_compat, check_features
from estimators.score import CannotBeComputed, Score

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
    features = check_features(features, minimum_samples=2)
    samples, dimensions = (int(n) for n in features.shape)
    grouped = centred_by_class(features, labels)
    value, rank = explained_variation(grouped, array_namespace(features).mean(features, axis=0))
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


def sample_gradients(features: Array, labels: Array, *, regularized: bool = False) -> Array:
    """(N,) how fast the H-score grows with each sample's weight (its shrinkage held fixed if ``regularized``).

    With A = S^+ (or (1 - a) Σ_a^-1 / N), B = M^T M, x the centred sample and z its distance from its class mean, the
    weight adds x x^T to S and x x^T - z z^T to B:  dH/dw = x^T A x - z^T A z - x^T A B A x.
    """
    features = check_features(features, minimum_samples=2)
    xp = array_namespace(features)
    samples, dimensions = features.shape
    grouped = centred_by_class(features, labels)
    centres = grouped.means()
    scatter, between = scatter_and_between(grouped)
    # A hair of the mean variance stands in for the pseudo-inverse where dimensions are dead or copied.
    strength, share = 1.0, 1e-12
    if regularized:
        share = ledoit_wolf(grouped, scatter / samples)
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


def regularized_h_score(*, features: Array, labels: Array, compat: str | None = None) -> Score:
    """H-score with the covariance shrunk by Ledoit and Wolf: ``(1 - a) tr(Σ_a^-1 cov(μ_y))``.

        Σ_a = (1 - a) Σ + a tr(Σ)/D I,   Σ = X̃^T X̃ / N,   a the Ledoit-Wolf shrinkage

    Defined, and not saturated, for N <= D too.
    Ibrahim, Ponomareva, Mazumder, "Newer is not always better: Rethinking transferability metrics", ECML 2022, sec. 3.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        compat: ``"author"`` gives the same number.

    Returns:
        Score without unit, from 0 to C - 1. Details: samples, dimensions, classes, shrinkage.

    Raises:
        InvalidEvidence: wrong shapes, NaN, fewer than two samples.
        CannotBeComputed: all samples are alike.
    """
    check_compat(compat)
    features = check_features(features, minimum_samples=2)
    xp = array_namespace(features)
    samples, dimensions = (int(n) for n in features.shape)
    grouped = centred_by_class(features, labels)
    scatter, between = scatter_and_between(grouped)
    covariance = scatter / samples
    variance = float(xp.linalg.trace(covariance)) / dimensions
    if variance == 0:
        raise CannotBeComputed("all samples have the same features")
    shrinkage = ledoit_wolf(grouped, covariance)
    factor = cholesky(mixed_with_identity(covariance, 1 - shrinkage, shrinkage * variance), overwrite=True)
    if factor is None:
        raise CannotBeComputed("the shrunk covariance is singular to rounding")
    between = between / (samples - 1) ** 0.5
    trace = xp.sum(xp.matrix_transpose(between) * solve_factored(factor, xp.matrix_transpose(between)))
    return Score(
        (1 - shrinkage) * float(trace),
        (),
        {"samples": samples, "dimensions": dimensions, "classes": len(grouped.classes), "shrinkage": shrinkage},
    )


def ledoit_wolf(grouped: ByClass, covariance: Array) -> float:
    """The shrinkage that minimises the expected squared error of the covariance of centred rows.

    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004, lemma 3.3. The
    fourth moments need only the squared length of each row, O(N D).
    """
    xp = array_namespace(covariance)
    samples, dimensions = grouped.rows.shape
    fourth = sum(float(xp.sum(xp.sum(group**2, axis=1) ** 2)) for group in grouped.groups()) / samples
    squared = float(xp.sum(covariance**2))
    variance = float(xp.linalg.trace(covariance)) / dimensions
    distance = squared - dimensions * variance**2
    error = min((fourth - squared) / samples, distance)
    return error / distance if error > 0 else 0.0
