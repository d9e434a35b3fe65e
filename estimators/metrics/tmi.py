"""TMI: how much variety a model keeps inside each class."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from array_api_compat import is_numpy_array

from estimators.arrays.chebyshev import neighbor_distances, permitted_threads
from estimators.arrays.classes import ClassOrder, class_order, label_slots
from estimators.arrays.validation import Array, check_compat, check_features, check_number, to_numpy, working_rows
from estimators.metric import COMPAT, Linear, Metric, Parameter
from estimators.score import CannotBeComputed, Score


def log_distances(
    features: Array, order: ClassOrder, *, neighbors: int, floor: float
) -> tuple[list[np.ndarray | None], int]:
    """``ln(2 max(ε_i, floor))`` of each class's samples (None for a class of at most ``neighbors``), and how many
    distances lay under the floor."""
    large = [order.order[part] for part in order.slices() if part.stop - part.start > neighbors]
    with ThreadPoolExecutor(permitted_threads() if is_numpy_array(features) else 1) as threads:
        found = threads.map(lambda own: to_numpy(neighbor_distances(working_rows(features, own), neighbors)), large)
        measured = list(found)
    clipped = sum(int(np.sum(distances < floor)) for distances in measured)
    with np.errstate(divide="ignore"):
        logs = iter([np.log(2.0 * np.maximum(distances, floor)) for distances in measured])
    return [next(logs) if count > neighbors else None for count in order.counts.tolist()], clipped


def tmi(*, features: Array, labels: Array, neighbors: int = 3, floor: float = 1.0, compat: str | None = None) -> Score:
    """Transferability by intra-class mutual information: ``H(X | Y) = Σ_c p_c h_c``, in nats.

        h_c = ψ(n_c) - ψ(k) + (D / n_c) Σ_{i in c} ln(2 max(ε_i, floor))

    with ε_i the Chebyshev distance from x_i to its k-th nearest other sample of its class (Kozachenko-Leonenko).
    Xu and Kang, "Fast and Accurate Transferability Measurement by Evaluating Intra-class Feature Variance",
    ICCV 2023, sec. 4.

    Classes of at most k samples have no estimate: they are left out, and the weights p_c of the others are scaled to
    sum to one.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        neighbors: k.
        floor: smallest distance, in the unit of the features. A share of clipped distances near one means that the
            score says little but D and the class sizes; see the warning.
        compat: ``"author"`` gives the number of the authors' program: the weighted terms are averaged over the label
            slots 0..max(y), a class of no or one sample counts as h = 0, a class of 2..k samples is skipped.

    Returns:
        Score. Details: samples, dimensions, classes, classes_left_out, clipped_share, sum and mean (over the classes
        measured) of p_c h_c.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: no class has more than ``neighbors`` samples, or samples coincide and the floor is zero.
    """
    return score_and_shares(features=features, labels=labels, neighbors=neighbors, floor=floor, compat=compat)[0]


def score_and_shares(
    *, features: Array, labels: Array, neighbors: int = 3, floor: float = 1.0, compat: str | None = None
) -> tuple[Score, np.ndarray]:
    """The Score of `tmi`, and (N,) what each sample's distance adds to it."""
    from scipy.special import digamma

    author = check_compat(compat)
    check_number("neighbors", neighbors, minimum=1, whole=True)
    check_number("floor", floor, minimum=0)
    features = check_features(features, convert=False)
    samples, dimensions = features.shape
    grouped = class_order(labels, samples)
    terms, clipped = log_distances(features, grouped, neighbors=neighbors, floor=floor)
    entropies = np.asarray(
        [
            np.nan if term is None else digamma(len(term)) - digamma(neighbors) + dimensions * float(np.mean(term))
            for term in terms
        ]
    )
    shares = grouped.counts / samples
    measured = ~np.isnan(entropies)
    weighted = np.where(measured, shares * entropies, 0.0)
    if author:
        skipped = int(np.sum(~measured & (grouped.counts > 1)))
        divisor = float(label_slots(grouped.classes) - skipped)
    else:
        divisor = float(np.sum(shares[measured]))
    value = float(np.sum(weighted)) / divisor if divisor else np.nan
    if np.isnan(value):
        raise CannotBeComputed(f"no class has more than {neighbors} samples, the neighbours that TMI looks at")
    if not np.isfinite(value):
        raise CannotBeComputed("samples of one class coincide and the floor is zero; set a floor above zero")
    considered = int(np.sum(grouped.counts[measured]))
    clipped_share = clipped / considered if considered else 0.0
    left_out = int(np.sum(~measured))
    warnings = []
    if clipped_share > 0.01:
        warnings.append(
            f"clipped: {clipped_share:.0%} of the distances lie under the floor of {floor:g}"
            + (", so the score says little but the number of dimensions" if clipped_share > 0.5 else "")
        )
    if left_out:
        warnings.append(f"left out: {left_out} classes have at most {neighbors} samples")
    by_sample = np.zeros(samples)
    by_sample[grouped.order] = np.concatenate(
        [np.zeros(n) if term is None else term for n, term in zip(grouped.counts, terms, strict=True)]
    )
    score = Score(
        value,
        tuple(warnings),
        {
            "samples": int(samples),
            "dimensions": int(dimensions),
            "classes": len(grouped.classes),
            "classes_left_out": left_out,
            "clipped_share": clipped_share,
            "sum": float(np.sum(weighted)),
            "mean": float(np.sum(weighted)) / max(1, int(np.sum(measured))),
        },
    )
    return score, dimensions / (samples * divisor) * by_sample


METRIC = Metric(
    name="tmi",
    title="TMI",
    required_evidence=frozenset({"features", "labels"}),
    range=(None, None),
    unit="nats",
    measures="How much variety the features keep inside each class: the entropy of the features given the label.",
    formula="Σ_c p_c h_c, h_c = ψ(n_c) - ψ(k) + (D/n_c) Σ_i ln(2 max(ε_i, floor)), ε_i the Chebyshev distance to "
    "the k-th nearest sample of the same class",
    interpretation="Only differences between models on one data set mean anything: one nat in D dimensions is little.",
    caveats="Grows with D and with the scale of the features, so it favours wide models and large activations; for "
    "features smaller than the floor it says nothing but D (see the clipped share).",
    cost="O(Σ_c n_c² D)",
    citation="Xu and Kang, Fast and Accurate Transferability Measurement by Evaluating Intra-class Feature Variance, "
    "ICCV 2023",
    function=tmi,
    resampling=Linear(score_and_shares),
    parameters={
        "neighbors": Parameter(3, "which nearest neighbour's distance is taken", "integer", 1),
        "floor": Parameter(1.0, "smallest distance, in the unit of the features"),
        "compat": COMPAT,
    },
)
