"""NCE: how much the source classifier's hard predictions leave unknown about the target labels."""

import numpy as np

from estimators.arrays.validation import Array, check_compat, check_labels, to_numpy
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
