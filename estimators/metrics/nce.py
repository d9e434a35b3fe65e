"""NCE: how much the source classifier's hard predictions leave unknown about the target labels."""

import numpy as np

from estimators.arrays.validation import Array, check_compat, check_labels, to_numpy
from estimators.metric import COMPAT, Metric, Numbers, Reweighted
from estimators.score import Score


def conditional_entropy(joint: np.ndarray) -> float:
    """H(row | column) in nats of a table of counts (rows, columns); empty cells count nothing."""
    joint = joint / joint.sum()
    columns = np.broadcast_to(joint.sum(axis=0), joint.shape)
    filled = joint > 0
    return float(-np.sum(joint[filled] * np.log(joint[filled] / columns[filled])))


def count_table(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Counts of pairs of codes: (number of row codes, number of column codes)."""
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


def nce(*, source_labels: Array, labels: Array, compat: str | None = None) -> Score:
    """Negative conditional entropy ``-H(Y | Z) = Σ_yz p(y,z) ln p(y|z)``, at most 0.

    Tran, Nguyen, Hassner, "Transferability and Hardness of Supervised Classification Tasks", ICCV 2019, eq. 9.

    Args:
        source_labels: (N,) the source class predicted for each target image (argmax of the source probabilities).
        labels: (N,) target labels, integers or strings.
        compat: ``"author"`` gives the same number: the authors' 1e-20 inside the logarithm is below rounding.

    Returns:
        Score in nats. Details: samples, classes, source_classes_predicted.

    Raises:
        InvalidEvidence: labels that are not one-dimensional or differ in length.
    """
    check_compat(compat)
    codes, classes = check_labels(labels)
    source_codes, source_classes = check_labels(source_labels, length=int(codes.shape[0]), name="source_labels")
    value = -conditional_entropy(count_table(to_numpy(codes), to_numpy(source_codes)))
    warnings: tuple[str, ...] = ()
    if len(source_classes) == 1:
        warnings = ("constant: the model predicts one source class for every image, so the score is -H(Y)",)
    # -0.0 reads as a negative score.
    return Score(
        value + 0.0,
        warnings,
        {
            "samples": int(codes.shape[0]),
            "classes": len(classes),
            "source_classes_predicted": len(source_classes),
        },
    )


def score_and_values(
    *, source_labels: Array, labels: Array, weights: Numbers, compat: str | None = None
) -> tuple[Score, Numbers]:
    """The Score of `nce`, and (R,) its values with each sample counted as often as its weight (R, N)."""
    score = nce(source_labels=source_labels, labels=labels, compat=compat)
    codes = to_numpy(check_labels(labels)[0])
    sources = to_numpy(check_labels(source_labels, length=len(codes))[0])
    pairs, place = np.unique(codes * (int(sources.max()) + 1) + sources, return_inverse=True)
    source_of_pair = pairs % (int(sources.max()) + 1)
    values = []
    for row in weights:
        joint = np.bincount(place, weights=row) / len(codes)
        marginal = np.bincount(source_of_pair, weights=joint)[source_of_pair]
        drawn = joint > 0
        values.append(np.sum(joint[drawn] * np.log(joint[drawn] / marginal[drawn])))
    return score, np.asarray(values)


METRIC = Metric(
    name="nce",
    title="NCE",
    required_evidence=frozenset({"source_probabilities", "labels"}),
    arguments=("source_labels", "labels"),
    range=(None, 0.0),
    unit="nats",
    measures="What is left unknown of the target label once the model's single best source class is known.",
    formula="-H(Y | Z) = Σ_yz p(y, z) ln p(y | z), with Z the most probable source class",
    interpretation="0 is perfect; -H(Y) means that the predicted source classes say nothing.",
    caveats="Too high when there are few images for many source classes, because each class then sees one image.",
    cost="O(N S)",
    citation="Tran, Nguyen, Hassner, Transferability and Hardness of Supervised Classification Tasks, ICCV 2019",
    function=nce,
    resampling=Reweighted(score_and_values),
    cpu_only="counting pairs of labels",
    parameters={"compat": COMPAT},
)
