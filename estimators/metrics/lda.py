"""The LDA posterior: how surely a linear discriminant recognises each sample's class."""

from array_api_compat import array_namespace

from estimators.arrays import discriminant
from estimators.arrays.validation import Array, check_compat
from estimators.metric import COMPAT, Linear, Metric
from estimators.metrics.sfda import SCALE
from estimators.score import Score


def lda(*, features: Array, labels: Array, scale: str = "none", compat: str | None = None) -> Score:
    """Mean posterior of the true class under a shrunk linear discriminant, ``(1/N) Σ_i p(y_i | x_i)``.

    The first fit of `sfda`. Gholami et al., "ETran: Energy-Based Transferability Estimation", ICCV 2023, sec. 3.3.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        scale: as in `sfda`.
        compat: ``"author"`` gives the number of ETran's program, in which the whitening has no effect: the covariance
            is the identity.

    Returns:
        Score in [0, 1]. Details: samples, dimensions, classes, shrinkage.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: fewer than two classes, or no variation inside the classes.
    """
    return score_and_shares(features=features, labels=labels, scale=scale, compat=compat)[0]


def score_and_shares(
    *, features: Array, labels: Array, scale: str = "none", compat: str | None = None
) -> tuple[Score, Array]:
    """The Score of `lda`, and (N,) what each sample adds to it, with the fit held fixed."""
    author = check_compat(compat)
    grouped, centres = discriminant.discriminable(features, labels, scale)
    xp = array_namespace(centres)
    if author:
        shrinkage, logs = 1.0, discriminant.log_softmax(grouped, centres, xp.matrix_transpose(centres))
    else:
        shrinkage, scatter = discriminant.fisher_shrinkage(grouped)
        logs = discriminant.log_posteriors(grouped, centres, scatter, shrinkage)
    return discriminant.score_and_shares(discriminant.of_own_class(logs, grouped), grouped, {"shrinkage": shrinkage})


METRIC = Metric(
    name="lda",
    title="LDA posterior",
    required_evidence=frozenset({"features", "labels"}),
    range=(0.0, 1.0),
    unit="probability",
    measures="How surely a linear discriminant recognises each image's class.",
    formula="(1/N) Σ_i p(y_i | x_i), p = softmax_c(x^T S⁻¹ μ_c - μ_c^T S⁻¹ μ_c/2 + ln p_c)",
    interpretation="A mean probability: 1/C is chance, 1 is certainty.",
    caveats="As SFDA, sooner: the samples are not made harder.",
    cost="O(N D² + D³ + N D C)",
    citation="Gholami et al., ETran: Energy-Based Transferability Estimation, ICCV 2023",
    function=lda,
    resampling=Linear(score_and_shares),
    parameters={"scale": SCALE, "compat": COMPAT},
)
