"""SFDA: how surely a linear discriminant recognises samples that were pushed towards the other classes."""

from array_api_compat import array_namespace

from estimators.arrays import discriminant
from estimators.arrays.classes import ByClass
from estimators.arrays.validation import Array, check_compat
from estimators.metric import COMPAT, Linear, Metric, Parameter
from estimators.score import Score

SCALE = Parameter(
    "none",
    "'rows' gives each row of features length one, so that the score does not depend on their scale",
    "choice",
    choices=discriminant.SCALES,
)


def sfda(*, features: Array, labels: Array, scale: str = "none", compat: str | None = None) -> Score:
    """Self-challenging Fisher discriminant analysis: the mean posterior of the true class, ``(1/N) Σ_i p(y_i | x'_i)``.

    A discriminant is fitted, each sample is drawn towards the other classes, the more the less sure it is,

        q_i  = softmax(p(· | x_i))_{y_i}
        x'_i = q_i x_i + (1 - q_i) (mean of the means of the other classes),

    and the discriminant is fitted again on x' with the shrinkage of the first fit.
    Shao et al., "Not All Models Are Equal: Predicting Model Transferability in a Self-challenging Fisher Space",
    ECCV 2022, sec. 4.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        scale: ``"none"``, as published, or ``"rows"``: each row of features gets length one first. The published
            shrinkage is exp(-5 λ) with λ in the squared unit of the features: for features of ordinary length it falls
            to its floor of 1e-10, and a discriminant of many dimensions is then certain of every sample. With rows of
            length one λ is at most 1 and the score does not depend on the scale.
        compat: ``"author"`` gives the same number; the paper writes the mean of ln p, which is in the details.

    Returns:
        Score in [0, 1]. Details: samples, dimensions, classes, shrinkage, first_mean_posterior, mean_log_posterior.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: fewer than two classes, or no variation inside the classes.
    """
    return score_and_shares(features=features, labels=labels, scale=scale, compat=compat)[0]


def score_and_shares(
    *, features: Array, labels: Array, scale: str = "none", compat: str | None = None
) -> tuple[Score, Array]:
    """The Score of `sfda`, and (N,) what each sample adds to it, with the fit held fixed."""
    check_compat(compat)
    grouped, centres = discriminant.discriminable(features, labels, scale)
    xp = array_namespace(centres)
    shrinkage, scatter = discriminant.fisher_shrinkage(grouped)
    probabilities = xp.exp(discriminant.log_posteriors(grouped, centres, scatter, shrinkage))
    first = discriminant.of_own_class(probabilities, grouped)
    confidence = xp.exp(first) / xp.sum(xp.exp(probabilities), axis=1)
    challenged = challenge(grouped, centres, confidence)
    logs = discriminant.log_posteriors(grouped, challenged, discriminant.within_scatter(grouped), shrinkage)
    logs = discriminant.of_own_class(logs, grouped)
    details = {
        "shrinkage": shrinkage,
        "first_mean_posterior": float(xp.mean(first)),
        "mean_log_posterior": float(xp.mean(logs)),
    }
    return discriminant.score_and_shares(logs, grouped, details)


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


METRIC = Metric(
    name="sfda",
    title="SFDA",
    required_evidence=frozenset({"features", "labels"}),
    range=(0.0, 1.0),
    unit="probability",
    measures="How surely a linear discriminant recognises each image's class after every image has been pushed "
    "towards the other classes, the more the less sure it was.",
    formula="(1/N) Σ_i p(y_i | x'_i), x'_i = q_i x_i + (1 - q_i) mean of the other class means",
    interpretation="A mean probability: 1/C is chance, 1 is certainty.",
    caveats="Reaches 1 for every model when there are few samples for the dimensions, and then says nothing.",
    cost="O(N D² + D³ + N D C)",
    citation="Shao et al., Not All Models Are Equal: Predicting Model Transferability in a Self-challenging Fisher "
    "Space, ECCV 2022",
    function=sfda,
    resampling=Linear(score_and_shares),
    parameters={"scale": SCALE, "compat": COMPAT},
)
