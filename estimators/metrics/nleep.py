"""N-LEEP: LEEP with the components of a Gaussian mixture of the features in place of source classes."""

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.linalg import principal_axes
from estimators.arrays.mixture import fit_responsibilities
from estimators.arrays.validation import Array, check_compat, check_features, check_labels, check_number, to_numpy
from estimators.metric import COMPAT, Metric, Numbers, Parameter, Reweighted
from estimators.metrics.leep import expected_predictions, reweighted
from estimators.score import Score

EXPLAINED = 0.8


def nleep(
    *,
    features: Array,
    labels: Array,
    components_per_class: int = 5,
    clustering_seed: int = 0,
    compat: str | None = None,
) -> Score:
    """Gaussian LEEP: ``(1/N) Σ_i ln EEP_i`` with mixture responsibilities for source probabilities, at most 0.

    Features are projected onto the fewest principal components that explain 80 % of their variance; a mixture of
    ``components_per_class`` times C full-covariance Gaussians is fitted (k-means start, expectation maximisation).
    Li et al., "Ranking Neural Checkpoints", CVPR 2021, sec. 4.2.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        components_per_class: mixture components per class.
        clustering_seed: of the k-means start; the same seed gives the same score.
        compat: ``"author"`` gives the mean of EEP without the logarithm, as the programs of SFDA and PED do; their
            mixture has no fixed seed.

    Returns:
        Score in nats (``compat="author"``: a probability). Details: samples, dimensions, classes, projected,
        components, regularisation, iterations.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: all samples are alike.
    """
    return score_and_responsibilities(
        features=features,
        labels=labels,
        components_per_class=components_per_class,
        clustering_seed=clustering_seed,
        compat=compat,
    )[0]


def score_and_responsibilities(
    *,
    features: Array,
    labels: Array,
    components_per_class: int = 5,
    clustering_seed: int = 0,
    compat: str | None = None,
) -> tuple[Score, np.ndarray]:
    """The Score of `nleep`, and (N, K) the responsibilities that took the place of source probabilities."""
    author = check_compat(compat)
    check_number("components_per_class", components_per_class, minimum=1, whole=True)
    check_number("clustering_seed", clustering_seed, minimum=0, whole=True)
    features = check_features(features, minimum_samples=2)
    _, classes = check_labels(labels, length=features.shape[0])
    samples, dimensions = (int(n) for n in features.shape)
    wanted = components_per_class * len(classes)
    components = min(wanted, samples)
    projected = project_explained(features)
    mixture = fit_responsibilities(to_numpy(projected), components, seed=clustering_seed)
    predictions, _, _ = expected_predictions(mixture.responsibilities, to_numpy(labels))
    warnings = []
    if components < wanted:
        warnings.append(f"components: {components} and not {wanted}, because there are only {samples} samples")
    if samples < 10 * components:
        warnings.append(f"few samples: {samples / components:.1f} samples a component; the score is too high")
    if not mixture.converged:
        warnings.append(f"not converged: the mixture was still changing after {mixture.iterations} iterations")
    score = Score(
        float(np.mean(predictions if author else np.log(predictions))),
        tuple(warnings),
        {
            "samples": samples,
            "dimensions": dimensions,
            "classes": len(classes),
            "projected": int(projected.shape[1]),
            "components": components,
            "regularisation": mixture.regularisation,
            "iterations": mixture.iterations,
        },
    )
    return score, mixture.responsibilities


def project_explained(features: Array) -> Array:
    """(N, k) the features in the fewest principal components that explain 80 % of their variance."""
    xp = array_namespace(features)
    centred = features - xp.mean(features, axis=0)
    variances, axes = principal_axes(centred)
    shares = xp.cumulative_sum(variances) / xp.sum(variances)
    count = int(xp.sum(xp.astype(shares < EXPLAINED, xp.int64))) + 1
    return centred @ axes[:, :count]


def score_and_values(
    *, features: Array, labels: Array, weights: Numbers, compat: str | None = None, **parameters: int
) -> tuple[Score, Numbers]:
    """The Score of `nleep`, and (R,) its values with samples weighted (R, N) and the mixture held fixed."""
    score, responsibilities = score_and_responsibilities(features=features, labels=labels, compat=compat, **parameters)
    return score, reweighted(responsibilities, labels, weights, logarithm=compat is None)


METRIC = Metric(
    name="nleep",
    title="N-LEEP",
    required_evidence=frozenset({"features", "labels"}),
    range=(None, 0.0),
    unit="nats",
    measures="LEEP with clusters of the features in place of source classes, so it needs no classifier.",
    formula="(1/N) Σ_i ln Σ_k r_ik p(y_i | k), r from a mixture of 5 C Gaussians in the principal components that "
    "explain 80 % of the variance",
    interpretation="0 is perfect; -H(Y) means that the clusters say nothing about the classes.",
    caveats="With few samples a cluster holds few images of one class and the score is too high; another seed gives "
    "another clustering.",
    cost="O(iterations · N K d²), K components in d ≤ D dimensions; less once assignments are clear",
    cpu_only="k-means (scikit-learn) and the mixture (NumPy)",
    citation="Li et al., Ranking Neural Checkpoints, CVPR 2021",
    function=nleep,
    resampling=Reweighted(score_and_values),
    parameters={
        "components_per_class": Parameter(5, "mixture components per class", "integer", 1),
        "clustering_seed": Parameter(0, "seed of the k-means start", "integer"),
        "compat": COMPAT,
    },
)
