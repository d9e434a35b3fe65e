"""The regularised H-score: the H-score with a covariance that is trusted as far as the samples allow."""

from array_api_compat import array_namespace

from estimators.arrays.classes import ByClass, centred_by_class
from estimators.arrays.linalg import cholesky, mixed_with_identity, solve_factored
from estimators.arrays.validation import Array, check_compat, check_features
from estimators.metric import COMPAT, Linear, Metric
from estimators.metrics.h_score import sample_gradients, scatter_and_between
from estimators.score import CannotBeComputed, Score


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
    features = check_features(features, minimum_samples=2, convert=False)
    xp = array_namespace(features)
    samples, dimensions = (int(n) for n in features.shape)
    grouped, _ = centred_by_class(features, labels)
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


def score_and_shares(*, features: Array, labels: Array, compat: str | None = None) -> tuple[Score, Array]:
    """The Score of `regularized_h_score`, and (N,) how fast it grows with each sample's weight, with a held fixed."""
    score = regularized_h_score(features=features, labels=labels, compat=compat)
    return score, sample_gradients(features, labels, shrink=ledoit_wolf)


METRIC = Metric(
    name="regularized_h_score",
    title="Regularised H-score",
    required_evidence=frozenset({"features", "labels"}),
    range=(0.0, None),
    unit="",
    measures="The H-score with a covariance that is trusted only as far as the number of samples allows.",
    formula="(1 - a) tr(Σ_a⁻¹ cov(μ_y)), Σ_a = (1 - a) Σ + a tr(Σ)/D I, a by Ledoit and Wolf",
    interpretation="As the H-score, and from few samples too; between 0 and C - 1.",
    caveats="With very few samples the shrinkage nears 1 and all directions count alike.",
    cost="O(N D² + D³)",
    citation="Ibrahim, Ponomareva, Mazumder, Newer is not always better: Rethinking transferability metrics, their "
    "peculiarities, stability and performance, ECML PKDD 2022",
    function=regularized_h_score,
    resampling=Linear(score_and_shares),
    parameters={"compat": COMPAT},
)
