"""TransRate: how many more bits the features need as a whole than class by class."""

from array_api_compat import array_namespace

from estimators.arrays.classes import ByClass, centred_by_class
from estimators.arrays.linalg import log_determinant, mixed_with_identity, rank_tolerance, unit_rows
from estimators.arrays.validation import Array, check_compat, check_features, check_number
from estimators.metric import COMPAT, Metric, Parameter
from estimators.score import CannotBeComputed, Score


def transrate(*, features: Array, labels: Array, epsilon: float = 1e-4, compat: str | None = None) -> Score:
    """``R(Z) - Σ_c p_c R(Z_c)`` with the coding rate ``R(Z) = 1/2 ln det(I + Z^T Z / (n ε))``, at least 0.

    Z are the centred features, Z_c its rows of class c (not centred again).
    Huang et al., "Frustratingly Easy Transferability Estimation", ICML 2022, eq. 5.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        epsilon: the squared distortion allowed, in the unit of the features.
        compat: ``"author"`` gives the number of the authors' program: each centred row has length one, and the rate is
            divided by the rank of Z. A row of zeros stays zero.

    Returns:
        Score in nats. Details: samples, dimensions, classes, rate, class_rate.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: all samples are alike (``compat="author"`` only).
    """
    author = check_compat(compat)
    check_number("epsilon", epsilon, minimum=0, exclusive=True)
    features = check_features(features, convert=False)
    samples, dimensions = (int(n) for n in features.shape)
    grouped, _ = centred_by_class(features, labels)
    if author:
        whole, parts = _author_rates(grouped.rows, grouped, epsilon)
    else:
        whole = coding_rate(grouped.rows, epsilon)
        parts = sum(group.shape[0] / samples * coding_rate(group, epsilon) for group in grouped.groups())
    warnings = []
    if samples <= dimensions:
        warnings.append(f"few samples: {samples} samples for {dimensions} dimensions; the score grows with the classes")
    return Score(
        whole - parts,
        tuple(warnings),
        {
            "samples": samples,
            "dimensions": dimensions,
            "classes": len(grouped.classes),
            "rate": whole,
            "class_rate": parts,
        },
    )


def coding_rate(rows: Array, epsilon: float) -> float:
    """R(Z) of (n, D) rows, on the smaller Gram matrix."""
    transposed = array_namespace(rows).matrix_transpose(rows)
    gram = rows @ transposed if rows.shape[0] < rows.shape[1] else transposed @ rows
    return 0.5 * log_determinant(mixed_with_identity(gram, 1 / (rows.shape[0] * epsilon), 1.0))


def _author_rates(rows: Array, grouped: ByClass, epsilon: float) -> tuple[float, float]:
    """R(Z) and Σ p_c R(Z_c) of rows of length one, each over the rank of Z."""
    xp = array_namespace(rows)
    rows = unit_rows(rows)
    singular = xp.linalg.svdvals(rows)
    rank = int(xp.sum(xp.astype(singular > rank_tolerance(rows.shape, rows.dtype) * singular[0], xp.int64)))
    if rank == 0:
        raise CannotBeComputed("all samples have the same features, so their rank is zero")
    shares = (grouped.counts / rows.shape[0]).tolist()
    parts = sum(
        share * coding_rate(rows[part, :], epsilon) for share, part in zip(shares, grouped.slices(), strict=True)
    )
    return coding_rate(rows, epsilon) / rank, parts / rank


METRIC = Metric(
    name="transrate",
    title="TransRate",
    required_evidence=frozenset({"features", "labels"}),
    range=(0.0, None),
    unit="nats",
    measures="How much shorter a code for the features becomes when the class is known.",
    formula="R(Z) - Σ_c p_c R(Z_c), R(Z) = ½ ln det(I + Z^T Z/(n ε))",
    interpretation="Only differences between models on one data set mean anything.",
    caveats="Depends on the scale of the features against ε, and grows with D; with few samples a class it measures "
    "the number of classes.",
    cost="O(N D² + D³)",
    citation="Huang et al., Frustratingly Easy Transferability Estimation, ICML 2022",
    function=transrate,
    parameters={
        "epsilon": Parameter(1e-4, "squared distortion, in the unit of the features", exclusive=True),
        "compat": COMPAT,
    },
)
